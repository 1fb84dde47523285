package lab

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"

	"golang.org/x/crypto/ssh"
)

// key is one SSH key pair in OpenSSH's file formats.
type key struct {
	private []byte
	public  []byte // with a newline
}

// keys are the lab's SSH keys, made anew for each.
type keys struct {
	hostEd25519, hostECDSA, user key
}

func newKeys() (*keys, error) {
	_, host, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	second, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	_, user, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	k := &keys{}
	return k, errors.Join(k.hostEd25519.set(host), k.hostECDSA.set(second), k.user.set(user))
}

func (k *key) set(signer crypto.Signer) error {
	block, err := ssh.MarshalPrivateKey(signer, "sp-lab")
	if err != nil {
		return fmt.Errorf("lab: ssh key: %w", err)
	}
	public, err := ssh.NewPublicKey(signer.Public())
	if err != nil {
		return fmt.Errorf("lab: ssh key: %w", err)
	}
	k.private, k.public = pem.EncodeToMemory(block), ssh.MarshalAuthorizedKey(public)
	return nil
}

func (k *keys) knownHosts(address string) []byte {
	return fmt.Appendf(nil, "%s %s%s %s", address, k.hostEd25519.public, address, k.hostECDSA.public)
}

// sshFiles writes the user's SSH files on the laptop: an unencrypted key, the
// GPU host's keys, and the alias strix.
func (l *Laptop) sshFiles(k *keys) error {
	const config = `Host ` + Alias + `
	HostName ` + GPUHostLAN + `
	User ` + UserName + `
	IdentityFile ~/.ssh/id_ed25519
`
	return errors.Join(
		l.WriteFile(".ssh/config", []byte(config), 0o600),
		l.WriteFile(".ssh/known_hosts", k.knownHosts(GPUHostLAN), 0o644),
		l.WriteFile(".ssh/id_ed25519", k.user.private, 0o600),
		l.WriteFile(".ssh/id_ed25519.pub", k.user.public, 0o644),
	)
}

// Alias is the GPU host's name in the user's SSH configuration.
const Alias = "strix"

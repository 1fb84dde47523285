package tunnel

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// passphraseTries is how often a passphrase may be typed.
const passphraseTries = 3

// agentPatience bounds the question which keys an agent has.
const agentPatience = 5 * time.Second

// unlocked is what became of one identity file.
type unlocked struct {
	key  Key
	note string // why there is no usable private key; empty: there is, or the agent has it
}

// identities finds h's keys and certificates.
func (r *resolver) identities(ctx context.Context, s *settings, h *Host) error {
	files, explicit, err := s.identityFiles()
	if err != nil {
		return err
	}
	held := r.agentKeys(ctx, h)
	for _, file := range files {
		u, ok := r.keys[file]
		if !ok {
			if u, err = r.unlock(ctx, file, explicit, held); err != nil {
				return fmt.Errorf("ssh host %s: %w", s.alias, err)
			}
			r.keys[file] = u
		}
		if u.note != "" {
			h.Notes = append(h.Notes, fmt.Sprintf("key file %s: %s", file, u.note))
		}
		if len(u.key.Public) > 0 {
			h.Keys = append(h.Keys, u.key)
		}
	}
	return s.certificates(h, files)
}

// identityFiles lists the paths of private keys; explicit: the user named them.
func (s *settings) identityFiles() (files []string, explicit bool, err error) {
	defaults := []string{"~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa"}
	var named []string
	for _, v := range s.values["identityfile"] {
		named = append(named, v[0])
	}
	if explicit = len(named) > 0; !explicit {
		named = defaults
	}
	for _, n := range named {
		if strings.EqualFold(n, "none") {
			continue
		}
		p, err := s.path("IdentityFile", n)
		if err != nil {
			return nil, false, err
		}
		if !slices.Contains(files, p) {
			files = append(files, p)
		}
	}
	return files, explicit, nil
}

// agentKeys lists the public keys in h's agent. An agent that does not answer
// has none; the login will say so.
func (r *resolver) agentKeys(ctx context.Context, h *Host) []ssh.PublicKey {
	if h.AgentSocket == "" {
		return nil
	}
	if keys, ok := r.agents[h.AgentSocket]; ok {
		return keys
	}
	var keys []ssh.PublicKey
	ctx, cancel := context.WithTimeout(ctx, agentPatience)
	defer cancel()
	if conn, err := (&net.Dialer{}).DialContext(ctx, "unix", h.AgentSocket); err == nil {
		defer conn.Close()
		deadline, _ := ctx.Deadline()
		list, err := []*agent.Key(nil), conn.SetDeadline(deadline)
		if err == nil {
			list, _ = agent.NewClient(conn).List()
		}
		for _, k := range list {
			keys = append(keys, k)
		}
	}
	r.agents[h.AgentSocket] = keys
	return keys
}

// unlock reads one identity file. held are the agent's keys: what the agent has
// needs no passphrase, and a default key is not asked about while the agent has
// any key at all. The error is ctx's.
func (r *resolver) unlock(ctx context.Context, file string, explicit bool, held []ssh.PublicKey) (*unlocked, error) {
	u := &unlocked{key: Key{Path: file}}
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		text, err = nil, nil
	}
	if err != nil {
		u.note = err.Error()
		return u, nil
	}
	raw, err := ssh.ParseRawPrivateKey(text)
	var locked *ssh.PassphraseMissingError
	if err == nil {
		u.key.PEM = text
		return u, u.finish(raw)
	}
	if errors.As(err, &locked) && locked.PublicKey != nil {
		u.key.Public = locked.PublicKey.Marshal()
	} else if pub := readPublic(file, text); pub != nil {
		u.key.Public = pub.Marshal()
	}
	inAgent := slices.ContainsFunc(held, func(k ssh.PublicKey) bool { return sameKey(k, u.key.Public) })
	switch {
	case inAgent:
	case text == nil && u.key.Public == nil:
		if explicit {
			u.note = "does not exist"
		}
	case locked == nil && u.key.Public != nil:
		u.note = "only its public half can be used here, and the ssh agent does not have it"
	case locked == nil:
		u.note = err.Error()
	case r.Passphrase == nil:
		u.note = "has a passphrase, which nobody was there to give: ssh-add " + shellQuote(file)
	case !explicit && len(held) > 0:
		u.note = "has a passphrase, not asked for since the ssh agent has keys: ssh-add " + shellQuote(file)
	default:
		return u, r.ask(ctx, u, text)
	}
	return u, nil
}

// ask has the user give the passphrase of the key in text.
func (r *resolver) ask(ctx context.Context, u *unlocked, text []byte) error {
	for range passphraseTries {
		phrase, err := r.Passphrase(u.key.Path)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			u.note = fmt.Sprintf("passphrase not given: %v", err)
			return nil
		}
		raw, err := ssh.ParseRawPrivateKeyWithPassphrase(text, phrase)
		clear(phrase)
		if errors.Is(err, x509.IncorrectPasswordError) {
			continue
		}
		if err != nil {
			u.note = err.Error()
			return nil
		}
		block, err := ssh.MarshalPrivateKey(raw, "")
		if err != nil {
			u.note = err.Error()
			return nil
		}
		u.key.PEM = pem.EncodeToMemory(block)
		return u.finish(raw)
	}
	u.note = fmt.Sprintf("the passphrase was wrong %d times", passphraseTries)
	return nil
}

// finish notes the public half of the private key raw.
func (u *unlocked) finish(raw any) error {
	signer, err := ssh.NewSignerFromKey(raw)
	if err != nil {
		u.note, u.key.PEM = err.Error(), nil
		return nil
	}
	u.key.Public = signer.PublicKey().Marshal()
	return nil
}

// readPublic finds the public half of an identity file: the file itself may be
// one (the private half is in the agent), or FILE.pub.
func readPublic(file string, text []byte) ssh.PublicKey {
	if pub, _, _, _, err := ssh.ParseAuthorizedKey(text); err == nil {
		return pub
	}
	if text, err := os.ReadFile(file + ".pub"); err == nil {
		if pub, _, _, _, err := ssh.ParseAuthorizedKey(text); err == nil {
			return pub
		}
	}
	return nil
}

// certificates adds each certificate to the key that it is for; FILE-cert.pub
// is one even if the configuration does not say so. One without a key file may
// still be for a key of the agent.
func (s *settings) certificates(h *Host, files []string) error {
	var paths []string
	for _, v := range s.values["certificatefile"] {
		p, err := s.path("CertificateFile", v[0])
		if err != nil {
			return err
		}
		paths = append(paths, p)
	}
	named := len(paths)
	for _, f := range files {
		paths = append(paths, strings.TrimSuffix(f, ".pub")+"-cert.pub")
	}
	for i, p := range paths {
		text, err := os.ReadFile(p)
		if errors.Is(err, fs.ErrNotExist) && i >= named {
			continue
		}
		if err != nil {
			h.Notes = append(h.Notes, fmt.Sprintf("certificate: %v", err))
			continue
		}
		pub, _, _, _, err := ssh.ParseAuthorizedKey(text)
		cert, ok := pub.(*ssh.Certificate)
		if err != nil || !ok || cert.CertType != ssh.UserCert {
			h.Notes = append(h.Notes, fmt.Sprintf("certificate %s: not a user certificate", filepath.Clean(p)))
			continue
		}
		h.certify(p, cert)
	}
	return nil
}

// certify attaches cert to its key; a second one becomes an entry of its own.
func (h *Host) certify(path string, cert *ssh.Certificate) {
	blob, of := cert.Marshal(), cert.Key.Marshal()
	extra := Key{Path: path, Public: of, Certificate: blob}
	for i := range h.Keys {
		k := &h.Keys[i]
		if !bytes.Equal(k.Public, of) {
			continue
		}
		if len(k.Certificate) == 0 {
			k.Certificate = blob
			return
		}
		if bytes.Equal(k.Certificate, blob) {
			return
		}
		extra.PEM = k.PEM
	}
	h.Keys = append(h.Keys, extra)
}

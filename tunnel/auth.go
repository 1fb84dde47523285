package tunnel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// identity is one key to offer, and how an error calls it.
type identity struct {
	signer ssh.Signer
	label  string
}

// fileIdentities makes the signers of h's key files, certificates first.
func fileIdentities(h Host) ([]identity, error) {
	var ids []identity
	for _, k := range h.Keys {
		if len(k.PEM) == 0 {
			continue
		}
		signer, err := ssh.ParsePrivateKey(k.PEM)
		if err != nil {
			return nil, fmt.Errorf("key %s of ssh host %s: %w", k.Path, h.Name, err)
		}
		if cert := k.certify(signer); cert != nil {
			ids = append(ids, identity{cert, "certificate for key file " + k.Path})
		}
		ids = append(ids, identity{signer, fmt.Sprintf("key file %s (%s)", k.Path, ssh.FingerprintSHA256(signer.PublicKey()))})
	}
	return ids, nil
}

// certify returns a signer of k's certificate, nil if it has none for signer's key.
func (k Key) certify(signer ssh.Signer) ssh.Signer {
	if len(k.Certificate) == 0 {
		return nil
	}
	pub, err := ssh.ParsePublicKey(k.Certificate)
	if err != nil {
		return nil
	}
	cert, ok := pub.(*ssh.Certificate)
	if !ok {
		return nil
	}
	s, err := ssh.NewCertSigner(cert, signer)
	if err != nil {
		return nil // for another key
	}
	return s
}

// authentication is one attempt to log in: the keys, and what became of it.
type authentication struct {
	host    Host
	agent   net.Conn // nil: none
	ids     []identity
	notes   []string
	methods []string // as the server listed them
	tried   int      // how many of ids were offered
	begun   bool     // the host key was accepted and a login tried
}

// newAuthentication gathers the keys to offer. The agent is dialled anew each
// time: it may have been restarted, or have got the right key by now. The
// attempt ends at deadline, for the agent too (it may be waiting for a touch).
// close must be called.
func newAuthentication(ctx context.Context, h Host, files []identity, deadline time.Time) *authentication {
	a := &authentication{host: h, notes: slices.Clone(h.Notes)}
	if h.AgentSocket != "" {
		ids, err := a.fromAgent(ctx, deadline)
		if err != nil {
			a.notes = append(a.notes, fmt.Sprintf("ssh agent %s: %v", h.AgentSocket, err))
		}
		a.ids = ids
	}
	for _, f := range files {
		held := slices.ContainsFunc(a.ids, func(id identity) bool {
			return bytes.Equal(id.signer.PublicKey().Marshal(), f.signer.PublicKey().Marshal())
		})
		if !held {
			a.ids = append(a.ids, f)
		}
	}
	return a
}

// fromAgent lists the agent's keys: first those that the configuration names,
// in its order (a server closes after a few wrong ones), then the others unless
// h.IdentitiesOnly.
func (a *authentication) fromAgent(ctx context.Context, deadline time.Time) ([]identity, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", a.host.AgentSocket)
	if err != nil {
		return nil, err
	}
	a.agent = conn
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	signers, err := agent.NewClient(conn).Signers()
	if err != nil {
		return nil, err
	}
	var named, others []identity
	for _, k := range a.host.Keys {
		for _, s := range signers {
			if !sameKey(s.PublicKey(), k.Public) {
				continue
			}
			label := fmt.Sprintf("agent key %s (%s)", k.Path, ssh.FingerprintSHA256(s.PublicKey()))
			if cert := k.certify(s); cert != nil {
				named = append(named, identity{cert, "certificate for " + label})
			}
			named = append(named, identity{s, label})
		}
	}
	for _, s := range signers {
		if !slices.ContainsFunc(named, func(id identity) bool { return id.signer == s }) {
			others = append(others, identity{s, agentLabel(s.PublicKey())})
		}
	}
	if a.host.IdentitiesOnly {
		if len(others) > 0 {
			a.notes = append(a.notes, fmt.Sprintf("%d other keys of the ssh agent (IdentitiesOnly)", len(others)))
		}
		return named, nil
	}
	return append(named, others...), nil
}

// sameKey says whether an agent's key is the one whose public half is blob, or
// a certificate for it.
func sameKey(pub ssh.PublicKey, blob []byte) bool {
	if len(blob) == 0 {
		return false
	}
	if bytes.Equal(pub.Marshal(), blob) {
		return true
	}
	parsed, err := ssh.ParsePublicKey(pub.Marshal())
	if err != nil {
		return false
	}
	cert, ok := parsed.(*ssh.Certificate)
	return ok && bytes.Equal(cert.Key.Marshal(), blob)
}

// agentLabel names a key that only the agent knows.
func agentLabel(pub ssh.PublicKey) string {
	if key, ok := pub.(*agent.Key); ok && key.Comment != "" {
		return fmt.Sprintf("agent key %s (%s)", printable(key.Comment), ssh.FingerprintSHA256(pub))
	}
	return "agent key " + ssh.FingerprintSHA256(pub)
}

// install puts the login into an SSH configuration. Each key is an attempt of
// its own: the library would give up all others when an agent refuses to sign
// with one.
func (a *authentication) install(cfg *ssh.ClientConfig) {
	cfg.User = a.host.User
	cfg.AuthCallback = func(c *ssh.ClientAuthContext) (ssh.AuthMethod, error) {
		a.begun, a.methods = true, c.AllowedMethods
		if a.tried == len(a.ids) || !slices.Contains(c.AllowedMethods, "publickey") {
			return nil, nil // nothing left: the library ends the login
		}
		a.tried++
		return ssh.PublicKeys(modern(a.ids[a.tried-1].signer)), nil
	}
}

// modern keeps an RSA key from signing with SHA-1.
func modern(s ssh.Signer) ssh.Signer {
	switch s.PublicKey().Type() {
	case ssh.KeyAlgoRSA, ssh.CertAlgoRSAv01:
	default:
		return s
	}
	as, ok := s.(ssh.AlgorithmSigner)
	if !ok {
		return s
	}
	m, err := ssh.NewSignerWithAlgorithms(as, []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256})
	if err != nil {
		return s
	}
	return m
}

// explain turns a refused login into an AuthError; other errors stay.
func (a *authentication) explain(err error) error {
	if !a.begun || isNetwork(err) {
		return err
	}
	e := &AuthError{Host: a.host.Name, Login: a.host.User + "@" + a.host.address(), Notes: a.notes, Err: err}
	for _, id := range a.ids[:a.tried] {
		e.Offered = append(e.Offered, id.label)
	}
	for _, m := range a.methods {
		e.Methods = append(e.Methods, printable(m))
	}
	return e
}

// close ends the conversation with the agent.
func (a *authentication) close() {
	if a.agent != nil {
		a.agent.Close()
	}
}

// isEOF says whether a connection ended, in one of the library's ways to say so.
func isEOF(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed)
}

package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/sallyport/sallyport/config"
	"github.com/sallyport/sallyport/tunnel"
)

// explain takes an error apart: its first line, further reasons, and hints.
func explain(err error) finding {
	key, auth := new(tunnel.HostKeyError), new(tunnel.AuthError)
	target, forward := new(tunnel.TargetError), new(tunnel.ForwardError)
	problems := new(config.Error)
	switch {
	case errors.As(err, &key):
		return explainKey(key)
	case errors.As(err, &auth):
		text, hint, _ := strings.Cut(auth.Error(), "; put one of your public keys")
		if hint != "" {
			hint = "put one of your public keys" + hint
		}
		return finding{Text: text, Hints: some(hint)}
	case errors.As(err, &target):
		return finding{Text: strings.TrimSuffix(target.Error(), "; "+target.Hint), Hints: some(target.Hint)}
	case errors.As(err, &forward):
		return finding{Text: strings.TrimSuffix(forward.Error(), "; "+forward.Hint), Hints: some(forward.Hint)}
	case errors.As(err, &problems):
		f := finding{Text: fmt.Sprintf("%d problems", len(problems.Problems))}
		for _, p := range problems.Problems {
			f.Detail = append(f.Detail, p.String())
		}
		return f
	}
	return takeApart(err.Error())
}

// explainKey says what is wrong with a host key, and what may mend it.
func explainKey(e *tunnel.HostKeyError) finding {
	shown := strings.TrimSpace(e.KeyType + " " + e.Fingerprint)
	at := fmt.Sprintf("%s (%s)", e.Host, e.Addr)
	switch e.Problem {
	case tunnel.HostKeyUnknown:
		return finding{Text: fmt.Sprintf("the host key of %s is not known: %s", at, shown), Hints: []string{
			"compare it with what the host's owner says (there: ssh-keygen -lf /etc/ssh/ssh_host_" + keyFile(e.KeyType) + "_key.pub), then: " + e.Fix}}
	case tunnel.HostKeyChanged:
		return finding{Text: fmt.Sprintf("the host key of %s has CHANGED: it is now %s, other than %s:%d; somebody may be in the middle", at, shown, e.File, e.Line),
			Hints: []string{"if the host was really given a new key, forget the old one: " + e.Fix}}
	case tunnel.HostKeyRevoked:
		return finding{Text: fmt.Sprintf("the host key of %s is REVOKED by %s:%d: %s", at, e.File, e.Line, shown), Hints: []string{"if that line is wrong, delete it: " + e.Fix}}
	}
	return finding{Text: e.Error()}
}

// keyFile is what OpenSSH calls the file of a kind of host key.
func keyFile(keyType string) string {
	switch {
	case strings.HasPrefix(keyType, "ecdsa-"):
		return "ecdsa"
	case strings.HasPrefix(keyType, "ssh-"):
		return strings.TrimPrefix(keyType, "ssh-")
	}
	return "*"
}

func some(hint string) []string {
	if hint == "" {
		return nil
	}
	return []string{hint}
}

// takeApart finds the hints in a text: lines that begin with "hint:", and what
// follows "; hint: " or "; remedy: " in one.
func takeApart(text string) finding {
	var f finding
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		hint := ""
		if rest, ok := strings.CutPrefix(line, "hint: "); ok {
			line, hint = "", rest
		}
		for _, mark := range []string{"; hint: ", "; remedy: "} {
			if before, after, ok := strings.Cut(line, mark); ok && hint == "" {
				line, hint = before, after
			}
		}
		f.Hints = append(f.Hints, some(hint)...)
		switch {
		case line == "":
		case f.Text == "":
			f.Text = line
		default:
			f.Detail = append(f.Detail, line)
		}
	}
	f.Text = strings.TrimSuffix(f.Text, ":")
	return f
}

package hub

import (
	"context"
	"crypto/tls"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"syscall"
)

// explain turns what went wrong with what ("list the files of x/y") into an
// Error with a hint.
func (f *fetcher) explain(what string, err error) error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if f.ctx.Err() != nil {
		return fail(KindInterrupted, "launcher pull again: it goes on where it stopped", "%s: stopped", what)
	}
	if e, ok := errors.AsType[*proxyError](err); ok {
		return f.explainProxy(what, e)
	}
	if e, ok := errors.AsType[*statusError](err); ok {
		return f.explainStatus(what, e)
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fail(KindDisk, "make room, or set weights to a folder on another disk, and pull again: it goes on where it stopped", "%s: the disk of %s is full", what, f.job.shown())
	}
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
		return fail(KindFiles, "the folder must belong to you and be writable", "%s: %s", what, printable(err.Error()))
	}
	if _, ok := errors.AsType[*fs.PathError](err); ok {
		return explainPath(what, err)
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return fail(KindUnreachable, "a proxy that opens TLS has a certificate of its own: name its file as hub.ca", "%s: %s", what, printable(err.Error()))
	}
	hint := "is this machine online? The gateway's record has the cause: gateway audit"
	if dns, ok := errors.AsType[*net.DNSError](err); ok && dns.IsNotFound {
		hint = "is the endpoint's name right, and is this machine online?"
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fail(KindUnreachable, hint, "%s: no answer in time", what)
	}
	return fail(KindUnreachable, hint, "%s: %s", what, printable(err.Error()))
}

func (f *fetcher) explainProxy(what string, e *proxyError) error {
	host, _, err := net.SplitHostPort(e.host)
	if err != nil {
		host = e.host
	}
	host = printable(host)
	switch {
	case e.status == http.StatusForbidden && f.client.hub.Hostname() == host:
		return fail(KindRefused, "the gateway's record says why: gateway audit", "%s: the proxy refused %s (%s)", what, host, printable(e.reason))
	case e.status == http.StatusForbidden:
		return fail(KindRefused, "if you trust that host, add it to hub.hosts in your config",
			"%s: the hub redirected to %s, which no pull may reach (%s)", what, host, printable(e.reason))
	}
	return fail(KindUnreachable, "is the machine of the gateway online? gateway audit says what went wrong", "%s: %s could not be reached: %s", what, host, printable(e.Error()))
}

func (f *fetcher) explainStatus(what string, e *statusError) error {
	token := "set HF_TOKEN to a token of your account that may read it"
	if f.client.token != "" {
		token = "may the account of this HF_TOKEN read it?"
	}
	switch {
	case e.host != f.client.hub.Host:
		return fail(KindHub, "", "%s: %s", what, e.Error())
	case e.code == "GatedRepo":
		return fail(KindDenied, "accept its terms on the hub's page of it, then "+token, "%s: %s is gated", what, f.job.Repo)
	case e.code == "RevisionNotFound":
		return fail(KindRevision, "is models[].revision right?", "%s: %s has no revision %q", what, f.job.Repo, f.job.revision())
	case e.code == "RepoNotFound" || e.status == http.StatusUnauthorized:
		return fail(KindDenied, "is its name right? If it is private, "+token, "%s: there is no %s, or it is private", what, f.job.Repo)
	case e.status == http.StatusForbidden:
		return fail(KindDenied, token, "%s: %s", what, e.Error())
	case e.status == http.StatusTooManyRequests:
		return fail(KindHub, "wait some minutes; a token raises the limit: "+token, "%s: the hub has had too many requests of yours", what)
	}
	return fail(KindHub, "", "%s: %s", what, e.Error())
}

func explainPath(what string, err error) error {
	if strings.Contains(err.Error(), "path escapes from parent") {
		return fail(KindFiles, "a symbolic link leads out of the folder: set weights to where the files really are",
			"%s: %s", what, printable(err.Error()))
	}
	return fail(KindFiles, "", "%s: %s", what, printable(err.Error()))
}

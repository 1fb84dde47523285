package hub

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	maxHops     = 5                // redirects of one request
	dialTimeout = 20 * time.Second // to connect, and for TLS
	headTimeout = 60 * time.Second // until the head of an answer is there
)

// MaxToken is the most bytes that HF_TOKEN may have.
const MaxToken = 4 << 10

// client asks the hub. It follows redirects itself: to https only, and the token
// goes to the hub's own host alone.
type client struct {
	http  *http.Client
	hub   *url.URL
	token string        // empty: none
	idle  time.Duration // how long an answer may bring nothing
}

// newClient makes a client of the job's endpoint. roots nil: the system's.
func newClient(j Job, token string, proxy func(*http.Request) (*url.URL, error)) (*client, error) {
	hub, err := url.Parse(j.Endpoint)
	if err != nil {
		return nil, fail(KindUsage, "", "%q is no URL", printable(j.Endpoint))
	}
	if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, fail(KindUsage, "copy the token again", "HF_TOKEN holds something that is in no token")
	}
	var roots *x509.CertPool
	if j.Roots != "" {
		roots = x509.NewCertPool()
		if !roots.AppendCertsFromPEM([]byte(j.Roots)) {
			return nil, fail(KindUsage, "hub.ca is a file of PEM certificates", "the job's certificates cannot be read")
		}
	}
	dialer := &net.Dialer{Timeout: dialTimeout}
	transport := &http.Transport{
		Proxy:                  proxy,
		DialContext:            dialer.DialContext,
		TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    dialTimeout,
		ResponseHeaderTimeout:  headTimeout,
		MaxResponseHeaderBytes: 64 << 10,
		DisableCompression:     true, // sizes and ranges are those of the files
		OnProxyConnectResponse: func(_ context.Context, _ *url.URL, r *http.Request, res *http.Response) error {
			if res.StatusCode == http.StatusOK {
				return nil
			}
			return &proxyError{host: r.Host, status: res.StatusCode, reason: res.Header.Get("X-Sallyport-Reason")}
		},
	}
	return &client{
		hub: hub, token: token, idle: idle,
		http: &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}, nil
}

// close ends idle connections.
func (c *client) close() { c.http.CloseIdleConnections() }

// proxyError is a CONNECT that the proxy answered with something else than 200.
type proxyError struct {
	host   string
	status int
	reason string // the gateway's; empty: it does not say
}

func (e *proxyError) Error() string {
	if e.reason == "" {
		return fmt.Sprintf("the proxy answered %d for %s", e.status, printable(e.host))
	}
	return fmt.Sprintf("the proxy answered %d for %s: %s", e.status, printable(e.host), printable(e.reason))
}

// statusError is an answer of another status than was asked for.
type statusError struct {
	status  int
	host    string
	code    string        // X-Error-Code: GatedRepo, RepoNotFound, RevisionNotFound, EntryNotFound
	message string        // X-Error-Message
	after   time.Duration // Retry-After; zero: it does not say
}

func (e *statusError) Error() string {
	text := fmt.Sprintf("%s answered %d %s", printable(e.host), e.status, http.StatusText(e.status))
	if e.message != "" {
		text += ": " + printable(e.message)
	}
	return text
}

// answer is a response of 200 or 206, and what the hub's own heads said on the way.
type answer struct {
	*http.Response
	commit string // X-Repo-Commit
	etag   string // X-Linked-Etag, or Etag of an answer of the hub's
}

// get asks for address and follows redirects. from is the first byte that is
// wanted; zero asks for all. A body that brings nothing for too long fails with
// errIdle. The caller closes it.
func (c *client) get(ctx context.Context, address *url.URL, from int64) (*answer, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	clock := time.AfterFunc(dialTimeout*2+headTimeout, func() { cancel(errIdle) })
	a, err := c.follow(ctx, address, from)
	if err != nil {
		err = idleErr(ctx, err)
		clock.Stop()
		cancel(nil)
		return nil, err
	}
	clock.Reset(c.idle)
	a.Body = &watched{ReadCloser: a.Body, ctx: ctx, clock: clock, idle: c.idle, cancel: cancel}
	return a, nil
}

// follow is get without a clock.
func (c *client) follow(ctx context.Context, address *url.URL, from int64) (*answer, error) {
	var a answer
	for range maxHops + 1 {
		res, err := c.once(ctx, address, from)
		if err != nil {
			return nil, err
		}
		if c.own(address) {
			note(&a.commit, res.Header.Get("X-Repo-Commit"))
			note(&a.etag, etag(res.Header.Get("X-Linked-Etag")))
		}
		switch res.StatusCode {
		case http.StatusOK, http.StatusPartialContent:
			if c.own(address) {
				note(&a.etag, etag(res.Header.Get("Etag")))
			}
			a.Response = res
			return &a, nil
		case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
			next, err := address.Parse(res.Header.Get("Location"))
			res.Body.Close()
			if err != nil || checkURL(next) != nil {
				return nil, fail(KindHub, "", "%s redirects to something that is no https address", printable(address.Host))
			}
			address = next
		default:
			err := refusedBy(res, address.Host)
			res.Body.Close()
			return nil, err
		}
	}
	return nil, fail(KindHub, "", "%s redirects more than %d times", printable(c.hub.Host), maxHops)
}

// once sends one request. An error never holds an address: those of a CDN are signed.
func (c *client) once(ctx context.Context, address *url.URL, from int64) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address.String(), nil)
	if err != nil {
		return nil, fail(KindHub, "", "no request can be made for %s", printable(address.Host))
	}
	req.Header.Set("User-Agent", "sallyport")
	if c.token != "" && c.own(address) {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	if from > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", from))
	}
	res, err := c.http.Do(req)
	if urlErr, ok := errors.AsType[*url.Error](err); ok {
		err = &hostError{host: address.Host, err: urlErr.Err}
	}
	return res, err
}

// hostError is a request that got no answer.
type hostError struct {
	host string
	err  error
}

func (e *hostError) Error() string { return printable(e.host) + ": " + printable(e.err.Error()) }
func (e *hostError) Unwrap() error { return e.err }

// own reports whether an address is the hub's, the only host that gets the token.
func (c *client) own(u *url.URL) bool {
	return u.Scheme == "https" && strings.EqualFold(u.Hostname(), c.hub.Hostname()) && port(u) == port(c.hub)
}

func port(u *url.URL) string {
	if u.Port() == "" {
		return "443"
	}
	return u.Port()
}

// checkURL refuses what a request may not go to.
func checkURL(u *url.URL) error {
	if u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Opaque != "" {
		return errors.New("no https address")
	}
	return nil
}

func note(field *string, value string) {
	if *field == "" {
		*field = value
	}
}

// etag is an Etag without what is around it: _normalize_etag of huggingface_hub
// src/huggingface_hub/file_download.py@ee0a451.
func etag(header string) string {
	return strings.Trim(strings.TrimPrefix(header, "W/"), `"`)
}

// refusedBy reads an answer that is not what was asked for: hf_raise_for_status
// of huggingface_hub src/huggingface_hub/utils/_http.py@ee0a451 has the headers.
func refusedBy(res *http.Response, host string) error {
	e := &statusError{status: res.StatusCode, host: host, code: res.Header.Get("X-Error-Code"), message: res.Header.Get("X-Error-Message")}
	var seconds int
	if _, err := fmt.Sscanf(res.Header.Get("Retry-After"), "%d", &seconds); err == nil && seconds > 0 && seconds < 3600 {
		e.after = time.Duration(seconds) * time.Second
	}
	return e
}

// body reads an answer of at most limit bytes.
func body(a *answer, limit int64) ([]byte, error) {
	defer a.Body.Close()
	data, err := io.ReadAll(io.LimitReader(a.Body, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fail(KindHub, "", "an answer of more than %d bytes", limit)
	}
	return data, nil
}

// transient reports whether trying again may help.
func transient(err error) bool {
	if _, ok := errors.AsType[*Error](err); ok {
		return false
	}
	if e, ok := errors.AsType[*proxyError](err); ok {
		return e.status == http.StatusServiceUnavailable || e.status == http.StatusGatewayTimeout || e.status == http.StatusBadGateway
	}
	if e, ok := errors.AsType[*statusError](err); ok {
		return e.status == http.StatusTooManyRequests || e.status == http.StatusRequestTimeout || e.status >= 500
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return false
	}
	if _, ok := errors.AsType[*fs.PathError](err); ok {
		return false // what the file system says is no matter of the network
	}
	return !errors.Is(err, context.Canceled)
}

package web

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
)

const tokenField = "token"

// gate lets in who has a session, and gives one for a token. Its zero value lets
// nobody in.
type gate struct {
	tokens   secrets
	sessions secrets
	guesses  limiter // of tokens
	told     limiter // of what Refused and the log hear
}

// handler is the page behind its protection. All of it is in this order; what is
// not explicitly let through is refused.
func (s *Server) handler(port string) http.Handler {
	pages := s.pages()
	cookie := "sallyport-" + port // cookies know no ports: another gateway's has another name
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		protect(w.Header())
		r.Body = http.MaxBytesReader(w, r.Body, 1<<10)
		if !methodAllowed(r) {
			w.Header().Set("Allow", "GET, HEAD")
			s.refuse(w, r, http.StatusMethodNotAllowed, refusal{Reason: "a method that the page does not have", Quiet: true})
			return
		}
		if err := checkSource(r, port); err != nil {
			s.refuse(w, r, http.StatusForbidden, refusal{Reason: err.Error()})
			return
		}
		if public[r.URL.Path] {
			serveStatic(w, r)
			return
		}
		if r.URL.Query().Has(tokenField) {
			s.exchange(w, r, cookie)
			return
		}
		session, ok := s.session(r, cookie)
		if !ok {
			s.refuse(w, r, http.StatusForbidden, refusal{Reason: "no session, or one that has expired", Quiet: true})
			return
		}
		if r.URL.Path == "/logout" {
			s.logout(w, r, cookie)
			return
		}
		pages.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), sessionKey{}, session)))
	})
}

// sessionKey is the context's key of the request's session.
type sessionKey struct{}

// protect sets what each answer has, refusals too.
func protect(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "+
		"form-action 'self'; frame-ancestors 'none'; base-uri 'none'; require-trusted-types-for 'script'; trusted-types 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("X-Dns-Prefetch-Control", "off")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cross-Origin-Embedder-Policy", "require-corp")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), usb=(), payment=()")
	h.Set("Cache-Control", "no-store")
}

// methodAllowed: everything is read, but for the end of a session.
func methodAllowed(r *http.Request) bool {
	if r.URL.Path == "/logout" {
		return r.Method == http.MethodPost
	}
	return r.Method == http.MethodGet || r.Method == http.MethodHead
}

// checkSource fails unless a request is meant for this listener and comes from
// its own page or from the user's hands. A name that somebody made point to
// 127.0.0.1 (DNS rebinding) shows in Host; other sites' pages show in
// Sec-Fetch-Site and Origin, which no script can set.
func checkSource(r *http.Request, port string) error {
	if r.Host != "127.0.0.1:"+port && r.Host != "localhost:"+port {
		return errors.New("a Host header that is not this page's")
	}
	for _, name := range []string{"Origin", "Sec-Fetch-Site", "Sec-Fetch-Mode", "Sec-Fetch-Dest"} {
		if len(r.Header.Values(name)) > 1 {
			return errors.New("a header twice: " + name)
		}
	}
	origin, reading := r.Header.Get("Origin"), r.Method != http.MethodPost
	own := origin == "http://"+r.Host
	switch r.Header.Get("Sec-Fetch-Site") {
	case "same-origin":
		// Our Referrer-Policy makes browsers write "null" on a form's POST.
		if own || reading && origin == "" || !reading && origin == "null" {
			return nil
		}
	case "none": // typed, a bookmark, or another program
		if reading && origin == "" {
			return nil
		}
	case "": // an old browser, or none
		if own || reading && origin == "" {
			return nil
		}
	default: // a link on another site: only with a token
		if origin == "" && r.Method == http.MethodGet && r.Header.Get("Sec-Fetch-Mode") == "navigate" &&
			r.Header.Get("Sec-Fetch-Dest") == "document" && r.URL.Query().Has(tokenField) {
			return nil
		}
	}
	return errors.New("a request that another site made")
}

// exchange gives a session for a token and leads to the same page without it.
func (s *Server) exchange(w http.ResponseWriter, r *http.Request, cookie string) {
	query := r.URL.Query()
	tokens := query[tokenField]
	if r.Method != http.MethodGet || len(tokens) != 1 || !s.gate.tokens.take(tokens[0], s.now()) {
		_, in := s.session(r, cookie)
		status, reason := http.StatusForbidden, refusal{Reason: "a token that is wrong, was used before, or has expired", In: in}
		if !s.gate.guesses.allow(s.now()) {
			w.Header().Set("Retry-After", "60")
			status, reason.Quiet = http.StatusTooManyRequests, true
		}
		s.refuse(w, r, status, reason)
		return
	}
	http.SetCookie(w, &http.Cookie{
		Name: cookie, Value: s.gate.sessions.issue(s.now().Add(sessionLife)), Path: "/",
		MaxAge: int(sessionLife.Seconds()), HttpOnly: true, SameSite: http.SameSiteStrictMode,
	})
	query.Del(tokenField)
	target := url.URL{Path: "/" + strings.TrimLeft(r.URL.Path, `/\`), RawQuery: query.Encode()}
	if r.Header.Get("Sec-Fetch-Site") == "cross-site" {
		// A redirect would still be that site's request, without the cookie.
		s.render(w, http.StatusOK, "entered.html", target.String())
		return
	}
	w.Header().Set("Location", target.String())
	w.WriteHeader(http.StatusSeeOther)
}

// session is the request's, if it has a valid one.
func (s *Server) session(r *http.Request, cookie string) (secret, bool) {
	cookies := r.CookiesNamed(cookie)
	if len(cookies) != 1 {
		return secret{}, false
	}
	return s.gate.sessions.find(cookies[0].Value, s.now())
}

// logout ends the session, and with it its live streams.
func (s *Server) logout(w http.ResponseWriter, r *http.Request, cookie string) {
	s.gate.sessions.take(r.CookiesNamed(cookie)[0].Value, s.now())
	http.SetCookie(w, &http.Cookie{Name: cookie, Path: "/", MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteStrictMode})
	s.render(w, http.StatusOK, "refused.html", refusal{Reason: "", Out: true})
}

// refusal is what somebody who is not let in is told.
type refusal struct {
	Reason string
	In     bool // they have a session all the same
	Out    bool // they have just ended theirs
	Quiet  bool // nobody else is told
}

// refuse answers a request that is not let in. Refused and the log are told only
// as often as a limiter lets: strangers do not fill them.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, status int, why refusal) {
	if !why.Quiet && s.gate.told.allow(s.now()) {
		s.Log.Warn("the audit page turned a request away", "reason", why.Reason, "from", r.RemoteAddr)
		if s.Refused != nil {
			s.Refused(why.Reason)
		}
	}
	s.render(w, status, "refused.html", why)
}

package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/sallyport/sallyport/sandbox"
	"github.com/sallyport/sallyport/tunnel"
	"golang.org/x/sys/unix"
)

const maxBody = 4 << 20 // bytes of a request

// Server serves the control API. All fields are required.
type Server struct {
	Handlers Handlers
	Refused  func(uid uint32) // told of a connection of somebody else's
	Log      *slog.Logger
}

// Serve serves l until ctx ends and every call has returned.
func (s *Server) Serve(ctx context.Context, l *net.UnixListener) error {
	h := s.Handlers
	if s.Refused == nil || s.Log == nil || h.Status == nil || h.Wall == nil || h.Register == nil || h.Unregister == nil ||
		h.SetAgent == nil || h.Watch == nil || h.SetHost == nil || h.CheckModel == nil || h.Pull == nil || h.Page == nil || h.Reload == nil || h.Down == nil {
		return errors.New("control.Server: a required field is missing")
	}
	server := &http.Server{
		Handler:           timed(s.mux()),
		ReadHeaderTimeout: readTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    64 << 10,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ErrorLog:          slog.NewLogLogger(s.Log.Handler(), slog.LevelWarn),
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if server.Shutdown(grace) != nil {
			server.Close()
		}
	})
	err := server.Serve(newBoundedListener(&peerListener{l, s.Refused}, s.Log))
	if !stop() {
		<-stopped
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve the control socket: %w", err)
}

func (s *Server) mux() *http.ServeMux {
	h := s.Handlers
	streams := make(streaming, maxStreams)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, r *http.Request) {
		status := h.Status()
		for i := range status.Sandboxes {
			status.Sandboxes[i].Token, status.Sandboxes[i].Upstream.Token = "", ""
		}
		answer(w, status, nil)
	})
	mux.HandleFunc("GET /v1/wall", func(w http.ResponseWriter, r *http.Request) { answer(w, h.Wall(), nil) })
	mux.HandleFunc("POST /v1/sandboxes", with(func(_ context.Context, reg sandbox.Registration) (any, error) { return h.Register(reg) }))
	mux.HandleFunc("DELETE /v1/sandboxes/{id}", func(w http.ResponseWriter, r *http.Request) {
		h.Unregister(r.PathValue("id"))
		answer(w, struct{}{}, nil)
	})
	mux.HandleFunc("PUT /v1/sandboxes/{id}/agent", func(w http.ResponseWriter, r *http.Request) {
		with(func(_ context.Context, name AgentName) (any, error) {
			return struct{}{}, h.SetAgent(r.PathValue("id"), name.Agent)
		})(w, r)
	})
	mux.HandleFunc("GET /v1/sandboxes/{id}/watch", streams.handle(func(w http.ResponseWriter, r *http.Request) {
		arrived(w)
		out := json.NewEncoder(w)
		err := h.Watch(r.Context(), r.PathValue("id"), func(state sandbox.State) error {
			state.Token, state.Upstream.Token = "", ""
			writing(w)
			if err := out.Encode(state); err != nil {
				return err
			}
			return http.NewResponseController(w).Flush()
		})
		if err != nil && r.Context().Err() == nil {
			s.Log.Warn("watch a sandbox", "err", err)
		}
	}))
	mux.HandleFunc("PUT /v1/hosts", with(func(_ context.Context, host tunnel.Host) (any, error) { return struct{}{}, h.SetHost(host) }))
	mux.HandleFunc("POST /v1/model-check", with(func(ctx context.Context, u sandbox.Upstream) (any, error) { return h.CheckModel(ctx, u), nil }))
	mux.HandleFunc("POST /v1/pulls", streams.handle(s.pull))
	mux.HandleFunc("POST /v1/page", func(w http.ResponseWriter, _ *http.Request) {
		page, err := h.Page()
		answer(w, page, err)
	})
	mux.HandleFunc("POST /v1/reload", func(w http.ResponseWriter, _ *http.Request) { answer(w, struct{}{}, h.Reload()) })
	mux.HandleFunc("POST /v1/down", with(func(_ context.Context, down DownRequest) (any, error) { return struct{}{}, h.Down(down) }))
	return mux
}

// with decodes the request's body, strictly, and answers with what do returns.
func with[T any](do func(context.Context, T) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var body T
		if err := decode(w, r, &body); err != nil {
			answer(w, nil, err)
			return
		}
		result, err := do(r.Context(), body)
		answer(w, result, err)
	}
}

func decode(w http.ResponseWriter, r *http.Request, body any) error {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	d.DisallowUnknownFields()
	if err := d.Decode(body); err != nil {
		return fmt.Errorf("the request's body: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("the request's body has something after its end")
	}
	arrived(w)
	return nil
}

func answer(w http.ResponseWriter, body any, err error) {
	writing(w)
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		body = Error{err.Error()}
	}
	// A client that went away has no use for the error.
	_ = json.NewEncoder(w).Encode(body)
}

// peerListener closes connections of other users: SO_PEERCRED, unix(7). The
// folder's mode keeps them out already; root may always look.
type peerListener struct {
	*net.UnixListener
	refused func(uid uint32)
}

// Accept returns the next connection of our own user's or of root's.
func (l *peerListener) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		uid, err := peerUID(c)
		if err == nil && (uid == 0 || uid == uint32(os.Getuid())) {
			return c, nil
		}
		c.Close()
		if err == nil {
			l.refused(uid)
		}
	}
}

func peerUID(c *net.UnixConn) (uint32, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) { cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return 0, err
	}
	if credErr != nil {
		return 0, credErr
	}
	return cred.Uid, nil
}

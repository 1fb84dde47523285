package wall

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

// The test binary runs itself as wall and as holder: each is a process of an
// ordinary user with NET_ADMIN alone, in a network namespace of its own.
const (
	roleVariable   = "SALLYPORT_TEST_ROLE"
	socketVariable = "SALLYPORT_TEST_SOCKET"
	tokenVariable  = "SALLYPORT_TEST_TOKEN"
)

func TestMain(m *testing.M) {
	role := os.Getenv(roleVariable)
	if role == "" {
		goleak.VerifyTestMain(m)
		return
	}
	if err := runRole(role); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func runRole(role string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	socket, token := os.Getenv(socketVariable), os.Getenv(tokenVariable)
	switch role {
	case "wall":
		return (&Wall{Socket: socket, Token: token, Log: log}).Run(ctx)
	case "hold":
		return (&Holder{Socket: socket, Token: token, Log: log}).Run(ctx)
	}
	return fmt.Errorf("no such role: %s", role)
}

package containers

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/client"
	"golang.org/x/sys/unix"
)

// HelperSpec describes a container of our own binary: wall, holder or demo
// model.
type HelperSpec struct {
	Name      string            // of the container; required
	Image     string            // from EnsureHelper; required
	Cmd       []string          // arguments of the binary
	UID, GID  int               // it runs as; zero or less is refused
	NetAdmin  bool              // gets NET_ADMIN, which its binary raises itself; false: no capability at all
	Sysctls   map[string]string // set in its namespaces at creation
	Binds     []Bind
	Env       []string
	Labels    map[string]string // LabelRole and LabelOwner at least, see checkLabels
	MemoryMB  int64             // zero: 256
	PidsLimit int64             // zero: 64
	Network   string            // "none", or "container:ID" of another helper; empty: "none"
}

// SysctlError says that the engine or its kernel refused a sysctl, as it does
// for every net.ipv6 one where the host has no IPv6.
type SysctlError struct {
	Container string
	Err       error
}

func (e *SysctlError) Error() string {
	return fmt.Sprintf("start %s: a sysctl was refused: %v", e.Container, e.Err)
}

// Unwrap returns what the engine said.
func (e *SysctlError) Unwrap() error { return e.Err }

// IPv6 reports whether the sysctl was one of IPv6.
func (e *SysctlError) IPv6() bool { return strings.Contains(e.Err.Error(), "ipv6") }

// EnsureHelper makes an image of one static binary, without a registry, unless
// the engine has it already, and returns its name, which carries a hash of the
// binary. In the image /gateway may gain NET_ADMIN where a container is given it,
// but does not hold it by itself: the effective bit is not set, so that the same
// file also runs in a container without the capability.
func (e *Engine) EnsureHelper(ctx context.Context, binary string) (string, error) {
	f, err := os.Open(binary)
	if err != nil {
		return "", fmt.Errorf("make the helper image: %w", err)
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", fmt.Errorf("make the helper image: read %s: %w", binary, err)
	}
	return e.EnsureHelperOf(ctx, binary, hex.EncodeToString(sum.Sum(nil)))
}

// EnsureHelperOf is EnsureHelper for who knows the binary's SHA-256 already, in
// hexadecimal: to read it takes longer than the rest. A binary that has another is
// not packed.
func (e *Engine) EnsureHelperOf(ctx context.Context, binary, sum string) (string, error) {
	name := sha256.Sum256([]byte(sum + netAdminPermitted())) // another way to pack it makes another image
	tag := "sallyport/helper:" + hex.EncodeToString(name[:])[:16]
	have, err := e.ImageExists(ctx, tag)
	if err != nil || have {
		return tag, err
	}
	f, err := os.Open(binary)
	if err != nil {
		return "", fmt.Errorf("make the helper image: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("make the helper image: %w", err)
	}
	return tag, e.importHelper(ctx, tag, f, info.Size(), sum)
}

func (e *Engine) importHelper(ctx context.Context, tag string, binary io.Reader, size int64, sum string) error {
	r, w := io.Pipe()
	packed := make(chan error, 1)
	go func() {
		err := packHelper(w, binary, size, sum)
		w.CloseWithError(err)
		packed <- err
	}()
	err := e.imageImport(ctx, tag, r)
	r.CloseWithError(errors.New("the engine stopped reading"))
	if packErr := <-packed; packErr != nil && (err == nil || errors.Is(packErr, errOtherBinary)) {
		err = packErr
	}
	if err != nil {
		return fmt.Errorf("make the helper image %s: %w", tag, err)
	}
	return nil
}

func (e *Engine) imageImport(ctx context.Context, tag string, body io.Reader) error {
	res, err := e.api.ImageImport(ctx, client.ImageImportSource{Source: body, SourceName: "-"}, tag,
		client.ImageImportOptions{Changes: []string{`ENTRYPOINT ["/gateway"]`, "WORKDIR /"}})
	if err != nil {
		return err
	}
	defer res.Close()
	return drain(res)
}

// drain reads an engine's progress stream to its end and returns the error it
// may carry: the status line was sent before the work was done.
func drain(body io.Reader) error {
	for dec := json.NewDecoder(body); ; {
		var msg jsonstream.Message
		if err := dec.Decode(&msg); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if msg.Error != nil {
			return msg.Error
		}
	}
}

// errOtherBinary keeps one binary from getting the name of another.
var errOtherBinary = errors.New("the binary has changed meanwhile; hint: try again")

// packHelper writes the helper's file system. It leaves the archive without an end,
// which no engine takes, where the binary has another SHA-256 than sum.
func packHelper(out io.Writer, binary io.Reader, size int64, sum string) error {
	w := tar.NewWriter(out)
	read := sha256.New()
	files := []tarFile{
		{name: "etc/", mode: 0o755},
		{name: "etc/passwd", data: []byte("root:x:0:0:root:/:/sbin/nologin\n")},
		{name: "etc/group", data: []byte("root:x:0:\n")},
		{name: "tmp/", mode: 0o1777},
		{name: "gateway", mode: 0o755, body: io.TeeReader(binary, read), size: size,
			pax: map[string]string{"SCHILY.xattr.security.capability": netAdminPermitted()}},
	}
	for _, f := range files {
		if err := f.write(w); err != nil {
			return err
		}
	}
	if hex.EncodeToString(read.Sum(nil)) != sum {
		return errOtherBinary
	}
	return w.Close()
}

// netAdminPermitted returns the security.capability attribute (struct
// vfs_cap_data, revision 2) that puts NET_ADMIN in a program's permitted set
// and leaves its effective set empty.
func netAdminPermitted() string {
	const revision2 = 0x02000000 // VFS_CAP_REVISION_2, without VFS_CAP_FLAGS_EFFECTIVE
	b := binary.LittleEndian.AppendUint32(nil, revision2)
	b = binary.LittleEndian.AppendUint32(b, 1<<unix.CAP_NET_ADMIN) // permitted, low word
	return string(append(b, make([]byte, 12)...))                  // inheritable, and the high words
}

// StartHelper creates and starts a helper and returns its id. On an error
// nothing is left behind. A refused sysctl is a *SysctlError.
func (e *Engine) StartHelper(ctx context.Context, spec HelperSpec) (string, error) {
	info, err := e.checked()
	if err != nil {
		return "", err
	}
	if err := spec.check(); err != nil {
		return "", err
	}
	host := spec.hostConfig(info)
	id, err := e.create(ctx, spec.Name, &container.Config{
		Image:  spec.Image,
		User:   fmt.Sprintf("%d:%d", spec.UID, spec.GID),
		Cmd:    spec.Cmd,
		Env:    spec.Env,
		Labels: spec.Labels,
	}, host)
	if err != nil {
		return "", asSysctl(spec.Name, err)
	}
	if err := e.Start(ctx, id); err != nil {
		return "", errors.Join(asSysctl(spec.Name, err), e.Remove(context.WithoutCancel(ctx), id))
	}
	return id, nil
}

func (s HelperSpec) check() error {
	if s.Name == "" || s.Image == "" {
		return fmt.Errorf("start helper %q: name and image are required", s.Name)
	}
	if s.UID <= 0 || s.GID <= 0 {
		return fmt.Errorf("start helper %s: uid %d, gid %d: a helper never runs as root", s.Name, s.UID, s.GID)
	}
	if s.Network != "" && s.Network != "none" && !strings.HasPrefix(s.Network, "container:") {
		return fmt.Errorf("start helper %s: network %q: must be none or container:ID", s.Name, s.Network)
	}
	return checkLabels(s.Name, s.Labels)
}

func (s HelperSpec) hostConfig(info Info) *container.HostConfig {
	host := confined(info, orDefault(s.MemoryMB, 256), orDefault(s.PidsLimit, 64), s.Binds)
	host.NetworkMode = "none"
	if s.Network != "" {
		host.NetworkMode = container.NetworkMode(s.Network)
	}
	host.Sysctls = s.Sysctls
	// Enough to see why a helper ended, without growing for ever.
	host.LogConfig = container.LogConfig{Type: "json-file", Config: map[string]string{"max-size": "1m", "max-file": "2"}}
	if s.NetAdmin {
		host.CapAdd = []string{"NET_ADMIN"}
		// File capabilities are ignored under no-new-privileges, which may be
		// the daemon's default, so it is said outright.
		host.SecurityOpt = []string{"no-new-privileges:false"}
	}
	if info.SELinux {
		host.SecurityOpt = append(host.SecurityOpt, "label=disable")
	}
	return host
}

// asSysctl gives an engine's refusal of a sysctl its type.
func asSysctl(name string, err error) error {
	if text := err.Error(); strings.Contains(text, "sysctl") || strings.Contains(text, "/proc/sys/") || strings.Contains(text, "proc/sys/net") {
		return &SysctlError{Container: name, Err: err}
	}
	return err
}

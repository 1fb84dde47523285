package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/containers"
)

// loadImages removes what an earlier lab left in the engine's store, and loads
// the images that the store has not got.
func (l *Laptop) loadImages(ctx context.Context, made *prepared) error {
	const left = `docker ps -aq | xargs -r docker rm -f -v
docker network prune -f && docker volume prune -f && docker image prune -f`
	if _, err := l.Command(ctx, "sh", "-ec", left).Output(); err != nil {
		return err
	}
	list, err := l.Docker(ctx, "image", "ls", "--format", "{{.Repository}}:{{.Tag}}")
	if err != nil {
		return err
	}
	have := strings.Fields(list)
	for _, i := range []image{made.base, made.agent} {
		if i.name == "" || slices.Contains(have, i.mark) {
			continue
		}
		if err := l.load(ctx, i); err != nil {
			return fmt.Errorf("lab: load %s: %w", i.name, err)
		}
	}
	return l.removeOld(ctx, have, made)
}

// removeOld removes images that tests made, and those that an earlier lab loaded
// and that have changed since.
func (l *Laptop) removeOld(ctx context.Context, have []string, made *prepared) error {
	args := []string{"image", "rm", "--force"}
	for _, name := range have {
		kept := slices.Contains([]string{made.base.name, made.base.mark, made.agent.name, made.agent.mark}, name)
		agent := strings.HasPrefix(name, agentMark) || strings.HasPrefix(name, "sallyport/agent")
		if kept || strings.Contains(name, "<none>") || agent && made.agent.name == "" {
			continue
		}
		args = append(args, name)
	}
	if len(args) == 3 {
		return nil
	}
	_, err := l.Docker(ctx, args...)
	return err
}

func (h *Host) load(ctx context.Context, i image) error {
	f, err := os.Open(i.file)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	args := []string{"load", "-q"}
	if i.name == containers.BaseImage {
		args = []string{"import", "-", i.mark}
	}
	cmd := h.CommandRoot(ctx, "docker", args...)
	cmd.Stdin = f
	if _, err := cmd.Output(); err != nil {
		return err
	}
	from, to := i.mark, i.name
	if i.name != containers.BaseImage { // a saved image has its name
		from, to = i.name, i.mark
	}
	_, err = h.CommandRoot(ctx, "docker", "tag", from, to).Output()
	return err
}

// agentSpec is how the lab's agent image is built: for the lab's user, trusting
// what npm on this machine is told to trust, on this machine's network.
func agentSpec() (containers.BuildSpec, error) {
	s := containers.BuildSpec{
		UID: UserID, GID: UserID,
		Network:  "host",
		Progress: func(line string) { fmt.Fprintln(os.Stderr, "lab: agent image:", line) },
	}
	if file := os.Getenv("NODE_EXTRA_CA_CERTS"); file != "" {
		ca, err := os.ReadFile(file)
		if err != nil {
			return s, fmt.Errorf("lab: NODE_EXTRA_CA_CERTS: %w", err)
		}
		s.ExtraCA = ca
	}
	return s, nil
}

// agentMark begins the mark of an agent image.
const agentMark = "sp-lab/agent:"

// agentImage returns the agent image, after building it if the cache has none.
func agentImage(ctx context.Context, made *prepared) (image, error) {
	spec, err := agentSpec()
	if err != nil {
		return image{}, err
	}
	built, err := containers.AgentTag(spec)
	if err != nil {
		return image{}, err
	}
	// On the laptop it goes by the name that a launcher without settings looks for.
	plain := spec
	plain.ExtraCA = nil
	name, err := containers.AgentTag(plain)
	if err != nil {
		return image{}, err
	}
	_, id, _ := strings.Cut(built, ":")
	i := image{name: name, mark: agentMark + id, file: filepath.Join(cacheDir(), "agent-"+id+".tar")}
	lock, err := lockFile(i.file+".lock", 0)
	if err != nil {
		return image{}, err
	}
	defer func() { _ = lock.Close() }()
	if _, err := os.Stat(i.file); err == nil {
		return i, nil
	}
	old, err := filepath.Glob(filepath.Join(cacheDir(), "agent-*.tar"))
	if err != nil {
		return image{}, err
	}
	if err := buildAgent(ctx, made, spec, i); err != nil {
		return image{}, fmt.Errorf("lab: make the agent image: %w", err)
	}
	for _, file := range old { // they are large
		_ = os.Remove(file) // a lab that starts just now may have been quicker
	}
	return i, nil
}

// buildAgent builds on an engine that shares this machine's network but neither
// makes a bridge nor touches its firewall.
func buildAgent(ctx context.Context, made *prepared, spec containers.BuildSpec, i image) (err error) {
	p, err := newPlace()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.remove()) }()
	images, err := takeStore("build")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, images.release()) }()
	h, err := newHost("build", false)
	if err != nil {
		return err
	}
	defer h.close()
	t, err := buildTree(p, made.root(Engine20), images.dir)
	if err != nil {
		return err
	}
	if err := h.boot(t); err != nil {
		return err
	}
	d := &daemon{
		host:  h,
		extra: []string{"--iptables=false", "--ip6tables=false", "--bridge=none", "--ip-forward=false"},
		json:  map[string]any{"cgroup-parent": "/" + p.id},
		log:   filepath.Join(p.shared, "dockerd.log"),
	}
	if err := d.start(ctx); err != nil {
		return err
	}
	if err := h.load(ctx, made.base); err != nil {
		return err
	}
	if err := buildOn(ctx, h, spec, i, p); err != nil {
		return err
	}
	return d.stop()
}

// buildTree is the build engine's: with this machine's resolver.
func buildTree(p *place, lower, images string) (*tree, error) {
	t := &tree{
		lower: lower,
		work:  filepath.Join(p.disk, "build"),
		binds: map[string]string{"/var/lib/docker": images, p.shared: p.shared},
		files: make(map[string]string),
	}
	for _, path := range []string{"/etc/resolv.conf", "/etc/hosts"} {
		content, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		t.files[path] = string(content)
	}
	return t, nil
}

func buildOn(ctx context.Context, h *Host, spec containers.BuildSpec, i image, p *place) error {
	engine, err := containers.Open(ctx, "unix://"+h.Outside(socketPath))
	if err != nil {
		return err
	}
	defer func() { _ = engine.Close() }()
	built, err := engine.BuildAgent(ctx, spec)
	if err != nil {
		return err
	}
	if _, err := h.CommandRoot(ctx, "docker", "tag", built, i.name).Output(); err != nil {
		return err
	}
	half := filepath.Join(p.shared, "agent.tar")
	if _, err := h.CommandRoot(ctx, "docker", "save", "-o", half, i.name).Output(); err != nil {
		return err
	}
	return moveFile(half, i.file)
}

// moveFile moves a file that may be on another file system; nobody sees half of
// it.
func moveFile(from, to string) error {
	err := os.Rename(from, to)
	if !errors.Is(err, unix.EXDEV) {
		return err
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := os.CreateTemp(filepath.Dir(to), ".making-*")
	if err != nil {
		return err
	}
	if _, err := out.ReadFrom(in); err != nil {
		return errors.Join(err, out.Close(), os.Remove(out.Name()))
	}
	return errors.Join(out.Close(), os.Rename(out.Name(), to), os.Remove(from))
}

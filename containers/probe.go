package containers

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
)

// ProbeSpec describes a container of our own binary that runs as root, with the
// capabilities and the seccomp profile that the engine gives by default: as users run
// containers that know nothing of Sallyport. `gateway verify` makes its attempts in
// such ones; no agent ever runs in one.
type ProbeSpec struct {
	Name       string   // of the container; required
	Image      string   // from EnsureHelper; required
	Cmd        []string // arguments of the binary
	Network    string   // "none", "container:ID", or the name of a network; required
	Addr       netip.Addr
	Addr6      netip.Addr        // like Addr, its address in Network; invalid: the engine chooses
	Also       []string          // further networks that it is connected to before it starts
	Unconfined bool              // without a seccomp and an AppArmor profile; any device may be opened
	CapAdd     []string          // besides the default ones
	Sysctls    map[string]string // set in its namespaces at creation
	Binds      []Bind
	Labels     map[string]string
	MemoryMB   int64 // zero: 512
	PidsLimit  int64 // zero: 512
}

// CreateProbe creates a probe's container without starting it and returns its id.
// Capabilities that the engine itself does not have are left out.
func (e *Engine) CreateProbe(ctx context.Context, spec ProbeSpec) (string, error) {
	info, err := e.checked()
	if err != nil {
		return "", err
	}
	if spec.Name == "" || spec.Image == "" || spec.Network == "" {
		return "", fmt.Errorf("create probe %q: name, image and network are required", spec.Name)
	}
	if err := checkLabels(spec.Name, spec.Labels); err != nil {
		return "", err
	}
	res, err := e.createProbe(ctx, spec, info)
	if err != nil {
		return "", fmt.Errorf("create container %s: %w", spec.Name, err)
	}
	for _, also := range spec.Also {
		if err := e.Connect(ctx, also, res.ID); err != nil {
			return "", errors.Join(err, e.Remove(context.WithoutCancel(ctx), res.ID))
		}
	}
	return res.ID, nil
}

// lacking is how an engine names a capability that it cannot give.
var lacking = regexp.MustCompile(`(?:capability not supported|unknown capability).*"CAP_([A-Z_]+)"`)

func (e *Engine) createProbe(ctx context.Context, spec ProbeSpec, info Info) (client.ContainerCreateResult, error) {
	for {
		res, err := e.api.ContainerCreate(ctx, client.ContainerCreateOptions{Name: spec.Name, Config: spec.config(), HostConfig: spec.hostConfig(info), NetworkingConfig: spec.networking()})
		if err == nil {
			return res, nil
		}
		named := lacking.FindStringSubmatch(err.Error())
		if named == nil || !slices.Contains(spec.CapAdd, named[1]) {
			return res, err
		}
		spec.CapAdd = slices.DeleteFunc(slices.Clone(spec.CapAdd), func(c string) bool { return c == named[1] })
	}
}

func (s ProbeSpec) config() *container.Config {
	return &container.Config{
		Image: s.Image, User: "0:0", Cmd: s.Cmd, Labels: s.Labels,
		OpenStdin: true, StdinOnce: true, AttachStdin: true, AttachStdout: true, AttachStderr: true,
	}
}

func (s ProbeSpec) hostConfig(info Info) *container.HostConfig {
	shared := confined(info, orDefault(s.MemoryMB, 512), orDefault(s.PidsLimit, 512), s.Binds)
	host := &container.HostConfig{
		NetworkMode: container.NetworkMode(s.Network), CapAdd: s.CapAdd, Sysctls: s.Sysctls, Mounts: shared.Mounts, Resources: shared.Resources,
		RestartPolicy: shared.RestartPolicy, UsernsMode: shared.UsernsMode,
		LogConfig: container.LogConfig{Type: "json-file", Config: map[string]string{"max-size": "1m", "max-file": "1"}},
	}
	if s.Unconfined {
		host.SecurityOpt = []string{"seccomp=unconfined", "apparmor=unconfined"}
		host.DeviceCgroupRules = []string{"a *:* rwm"}
	}
	return host
}

func (s ProbeSpec) networking() *network.NetworkingConfig {
	if !s.Addr.IsValid() {
		return nil
	}
	return &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{
		s.Network: {IPAMConfig: &network.EndpointIPAMConfig{IPv4Address: s.Addr, IPv6Address: s.Addr6}},
	}}
}

// NetworkSpec describes a network whose containers reach each other and the host's
// bridge, and nothing beyond it.
type NetworkSpec struct {
	Name    string
	Subnet  netip.Prefix
	Subnet6 netip.Prefix // invalid: it has no IPv6
	Labels  map[string]string
}

// CreateNetwork makes an internal network and returns its id.
func (e *Engine) CreateNetwork(ctx context.Context, spec NetworkSpec) (string, error) {
	if err := checkLabels(spec.Name, spec.Labels); err != nil {
		return "", err
	}
	six := spec.Subnet6.IsValid()
	opt := client.NetworkCreateOptions{Driver: "bridge", Internal: true, EnableIPv6: &six, Labels: spec.Labels,
		IPAM: &network.IPAM{Config: []network.IPAMConfig{{Subnet: spec.Subnet}}}}
	if six {
		opt.IPAM.Config = append(opt.IPAM.Config, network.IPAMConfig{Subnet: spec.Subnet6})
	}
	res, err := e.api.NetworkCreate(ctx, spec.Name, opt)
	if err != nil {
		return "", fmt.Errorf("create network %s: %w", spec.Name, err)
	}
	return res.ID, nil
}

// Connect connects a container to a further network, as `docker network connect`
// does.
func (e *Engine) Connect(ctx context.Context, networkID, containerID string) error {
	if _, err := e.api.NetworkConnect(ctx, networkID, client.NetworkConnectOptions{Container: containerID}); err != nil {
		return fmt.Errorf("connect container %s to network %s: %w", short(containerID), short(networkID), err)
	}
	return nil
}

// ContainerAddrs returns a running container's addresses in its networks.
func (e *Engine) ContainerAddrs(ctx context.Context, id string) ([]netip.Addr, error) {
	res, err := e.api.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
	if err != nil {
		return nil, fmt.Errorf("inspect container %s: %w", short(id), err)
	}
	var addrs []netip.Addr
	if res.Container.NetworkSettings == nil {
		return nil, nil
	}
	for _, n := range res.Container.NetworkSettings.Networks {
		for _, a := range []netip.Addr{n.IPAddress, n.GlobalIPv6Address} {
			if a.IsValid() {
				addrs = append(addrs, a)
			}
		}
	}
	return addrs, nil
}

// RemoveNetwork removes a network; one that is gone is no error.
func (e *Engine) RemoveNetwork(ctx context.Context, id string) error {
	if _, err := e.api.NetworkRemove(ctx, id, client.NetworkRemoveOptions{}); err != nil && !cerrdefs.IsNotFound(err) {
		return fmt.Errorf("remove network %s: %w", short(id), err)
	}
	return nil
}

// SweepNetworks removes the networks of one user whose launcher is gone; see Sweep.
func (e *Engine) SweepNetworks(ctx context.Context, owner string, alive func(launcher string) bool) error {
	res, err := e.api.NetworkList(ctx, client.NetworkListOptions{Filters: labelFilter(map[string]string{LabelOwner: owner, LabelLauncher: ""})})
	if err != nil {
		return fmt.Errorf("list networks: %w", err)
	}
	var failed []error
	for _, n := range res.Items {
		ours := n.Labels[LabelRole] == RoleProbe && n.Labels[LabelOwner] == owner && n.Labels[LabelLauncher] != ""
		if ours && !alive(n.Labels[LabelLauncher]) {
			failed = append(failed, e.RemoveNetwork(ctx, n.ID))
		}
	}
	return errors.Join(failed...)
}

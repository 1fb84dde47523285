package containers

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The engines that run model servers, by what they say of themselves.
var (
	docker         = ServerInfo{Kind: KindDocker}
	dockerRootless = ServerInfo{Kind: KindDocker, Rootless: true}
	podman         = ServerInfo{Kind: KindPodman}
	podmanRootless = ServerInfo{Kind: KindPodman, Rootless: true}
)

func serverLabels() map[string]string {
	return map[string]string{LabelRole: RoleServer, LabelOwner: "1000", LabelModel: "m"}
}

func serverSpec() ServerSpec {
	return ServerSpec{Name: "s", Image: "i", UID: 1000, GID: 1001, Labels: serverLabels()}
}

// asked returns what CreateServer would ask an engine for, as JSON has it.
func asked(t *testing.T, s ServerSpec, info ServerInfo) object {
	t.Helper()
	if err := s.check(""); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(object{"Config": s.config(info), "HostConfig": s.hostConfig(info)})
	if err != nil {
		t.Fatal(err)
	}
	both := struct{ Config, HostConfig object }{}
	if err := json.Unmarshal(text, &both); err != nil {
		t.Fatal(err)
	}
	for key, value := range both.Config {
		both.HostConfig["Config."+key] = value
	}
	return both.HostConfig
}

// Each row is a protection, or a weakening that has to be asked for.
func TestServerAsAskedOfTheEngine(t *testing.T) {
	gpus := []any{object{"Driver": "", "Count": float64(-1), "DeviceIDs": nil, "Capabilities": []any{[]any{"gpu"}}, "Options": nil}}
	cdi := []any{object{"Driver": "cdi", "Count": float64(0), "DeviceIDs": []any{"nvidia.com/gpu=all"}, "Capabilities": nil, "Options": nil}}
	tests := []struct {
		name   string
		info   ServerInfo
		change func(*ServerSpec)
		want   object
	}{
		{"no network unless asked for", docker, nil, object{"NetworkMode": "none"}},
		{"no network when said so", docker, func(s *ServerSpec) { s.Network = "none" }, object{"NetworkMode": "none"}},
		{"the engine's network for a pull when asked for", docker, func(s *ServerSpec) { s.Network, s.Labels[LabelRole] = "default", RolePull }, object{"NetworkMode": "default"}},
		{"no capability", docker, nil, object{"CapDrop": []any{"ALL"}, "CapAdd": nil}},
		{"nor a way to one; the system call filter stays", docker, nil, object{"SecurityOpt": []any{"no-new-privileges:true"}}},
		{"no filter when asked for", docker, func(s *ServerSpec) { s.SeccompUnconfined = true }, object{"SecurityOpt": []any{"no-new-privileges:true", "seccomp=unconfined"}}},
		{"SELinux", ServerInfo{Kind: KindPodman, SELinux: true}, nil, object{"SecurityOpt": []any{"no-new-privileges:true", "label=disable"}}},
		{"never privileged", docker, nil, object{"Privileged": false}},
		{"the machine's processes and names stay out", docker, nil, object{"PidMode": "", "UTSMode": "", "CgroupnsMode": "", "VolumesFrom": nil, "Binds": nil}},
		{"masks are the engine's own", docker, nil, object{"MaskedPaths": nil, "ReadonlyPaths": nil}},
		{"a root that cannot be written", docker, nil, object{"ReadonlyRootfs": true, "Tmpfs": object{"/tmp": "rw,exec,nosuid,nodev,mode=1777,size=2048m"}}},
		{"a smaller /tmp", docker, func(s *ServerSpec) { s.TmpMB = 7 }, object{"Tmpfs": object{"/tmp": "rw,exec,nosuid,nodev,mode=1777,size=7m"}}},
		{"a root that can", docker, func(s *ServerSpec) { s.Writable = true }, object{"ReadonlyRootfs": false}},
		{"shared memory of its own", docker, func(s *ServerSpec) { s.ShmMB = 3 }, object{"IpcMode": "private", "ShmSize": float64(3 << 20)}},
		{"the machine's when asked for", docker, func(s *ServerSpec) { s.IPCHost, s.ShmMB = true, 3 }, object{"IpcMode": "host", "ShmSize": float64(0)}},
		{"no device", docker, nil, object{"Devices": nil, "DeviceRequests": nil, "DeviceCgroupRules": nil}},
		{"no device on Podman", podman, nil, object{"Devices": nil, "DeviceRequests": nil}},
		{"devices by path", docker, func(s *ServerSpec) { s.Devices = []string{"/dev/kfd"} },
			object{"Devices": []any{object{"PathOnHost": "/dev/kfd", "PathInContainer": "/dev/kfd", "CgroupPermissions": "rw"}}, "DeviceRequests": nil}},
		{"NVIDIA", docker, func(s *ServerSpec) { s.GPUs = true }, object{"DeviceRequests": gpus, "Devices": nil}},
		{"NVIDIA on Podman", podmanRootless, func(s *ServerSpec) { s.GPUs = true }, object{"DeviceRequests": cdi}},
		{"the login", docker, nil, object{"Config.User": "1000:1001", "UsernsMode": ""}},
		{"the login on Podman", podman, nil, object{"Config.User": "1000:1001", "UsernsMode": ""}},
		{"the login on its own Podman", podmanRootless, nil, object{"Config.User": "0:0", "UsernsMode": "", "CapDrop": []any{"ALL"}, "SecurityOpt": []any{"no-new-privileges:true"}}},
		{"the login on its own Docker", dockerRootless, nil, object{"Config.User": "0:0", "UsernsMode": "", "CapDrop": []any{"ALL"}, "SecurityOpt": []any{"no-new-privileges:true"}}},
		{"the login past a remapping", ServerInfo{Kind: KindDocker, UsernsRemap: true}, nil, object{"Config.User": "1000:1001", "UsernsMode": "host"}},
		{"no group", docker, nil, object{"GroupAdd": nil, "Annotations": nil}},
		{"no group of the login's unless asked for", podmanRootless, nil, object{"GroupAdd": nil, "Annotations": nil}},
		{"groups by number", docker, func(s *ServerSpec) { s.Groups = []int{44, 992} }, object{"GroupAdd": []any{"44", "992"}}},
		{"groups by number on Podman", podman, func(s *ServerSpec) { s.Groups = []int{44} }, object{"GroupAdd": []any{"44"}}},
		{"the login's groups on its own Podman", podmanRootless, func(s *ServerSpec) { s.Groups = []int{44, 992} }, object{"GroupAdd": nil, "Annotations": object{"run.oci.keep_original_groups": "1"}}},
		{"no groups that would be others on its own Docker", dockerRootless, func(s *ServerSpec) { s.Groups = []int{44} }, object{"GroupAdd": nil, "Annotations": nil}},
		{"a bounded log", docker, nil, object{"LogConfig": object{"Type": "json-file", "Config": object{"max-size": "20m", "max-file": "3"}}}},
		{"a bounded log on Podman", podman, nil, object{"LogConfig": object{"Type": "json-file", "Config": object{"max-size": "20m"}}}},
		{"no restart", docker, nil, object{"RestartPolicy": object{"Name": "no", "MaximumRetryCount": float64(0)}, "AutoRemove": false}},
		{"no limit", docker, nil, object{"Memory": float64(0), "MemorySwap": float64(0), "PidsLimit": nil}},
		{"limits that need a controller of the login's", podmanRootless, func(s *ServerSpec) { s.MemoryMB, s.PidsLimit = 2, 9 }, object{"Memory": float64(0), "PidsLimit": nil}},
		{"limits", docker, func(s *ServerSpec) { s.MemoryMB, s.PidsLimit = 2, 9 }, object{"Memory": float64(2 << 20), "MemorySwap": float64(2 << 20), "PidsLimit": float64(9)}},
		{"nothing of the machine but what was asked for", docker, nil, object{"Mounts": nil}},
		{"binds", docker, func(s *ServerSpec) { s.Binds = []Bind{{"/home/me/w", "/weights", true}, {"/home/me/f", "/f", false}} }, object{"Mounts": []any{
			object{"Type": "bind", "Source": "/home/me/w", "Target": "/weights", "ReadOnly": true, "BindOptions": object{"Propagation": "private", "NonRecursive": true}},
			object{"Type": "bind", "Source": "/home/me/f", "Target": "/f", "BindOptions": object{"Propagation": "private", "NonRecursive": true}}}}},
		{"no stdin", docker, nil, object{"Config.OpenStdin": false, "Config.Tty": false}},
		{"stdin that ends", docker, func(s *ServerSpec) { s.StdinOpen = true }, object{"Config.OpenStdin": true, "Config.StdinOnce": true}},
		{"the image's own check does not run", docker, nil, object{"Config.Healthcheck": object{"Test": []any{"NONE"}}}},
		{"what runs", docker, func(s *ServerSpec) {
			s.Entrypoint, s.Cmd, s.Env, s.WorkDir = []string{"/e"}, []string{"a"}, []string{"A=b"}, "/d"
		},
			object{"Config.Image": "i", "Config.Entrypoint": []any{"/e"}, "Config.Cmd": []any{"a"}, "Config.Env": []any{"A=b"}, "Config.WorkingDir": "/d"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := serverSpec()
			if tt.change != nil {
				tt.change(&s)
			}
			names := []string{}
			for n := range tt.want {
				names = append(names, n)
			}
			if diff := cmp.Diff(tt.want, pick(asked(t, s, tt.info), names...)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestServersThatWouldReachFurtherAreRefused(t *testing.T) {
	bind := func(source string) func(*ServerSpec) {
		return func(s *ServerSpec) { s.Binds = []Bind{{Source: source, Target: "/t"}} }
	}
	device := func(path string) func(*ServerSpec) { return func(s *ServerSpec) { s.Devices = []string{path} } }
	env := func(v string) func(*ServerSpec) { return func(s *ServerSpec) { s.Env = []string{v} } }
	label := func(key, value string) func(*ServerSpec) { return func(s *ServerSpec) { s.Labels[key] = value } }
	tests := []struct {
		name   string
		change func(*ServerSpec)
		want   string // empty: may be created
	}{
		{"plain", func(*ServerSpec) {}, ""},
		{"the zero value", func(s *ServerSpec) { *s = ServerSpec{} }, "name and image"},
		{"no image", func(s *ServerSpec) { s.Image = "" }, "name and image"},
		{"as root", func(s *ServerSpec) { s.UID = 0 }, "never runs as root"},
		{"in root's group", func(s *ServerSpec) { s.GID = 0 }, "never runs as root"},
		{"as nobody in particular", func(s *ServerSpec) { s.UID = -1 }, "never runs as root"},
		{"with root's group added", func(s *ServerSpec) { s.Groups = []int{44, 0} }, "group 0"},
		{"on the machine's network", func(s *ServerSpec) { s.Network = "host" }, `network "host"`},
		{"on the bridge", func(s *ServerSpec) { s.Network = "bridge" }, `network "bridge"`},
		{"in a sandbox's network", func(s *ServerSpec) { s.Network = "container:x" }, `network "container:x"`},
		{"on the engine's network", func(s *ServerSpec) { s.Network = "default" }, "a model server has none"},
		{"a pull on the engine's network", func(s *ServerSpec) { s.Network, s.Labels[LabelRole] = "default", RolePull }, ""},
		{"with less than no memory", func(s *ServerSpec) { s.MemoryMB = -1 }, "negative"},
		{"with less than no processes", func(s *ServerSpec) { s.PidsLimit = -1 }, "negative"},
		{"without labels", func(s *ServerSpec) { s.Labels = nil }, "label"},
		{"as an agent", label(LabelRole, RoleAgent), `"agent"`},
		{"as a demo model, which is swept", label(LabelRole, RoleModel), `"model"`},
		{"as a pull", label(LabelRole, RolePull), ""},
		{"without an owner", label(LabelOwner, ""), LabelOwner},
		{"without a model", label(LabelModel, ""), LabelModel},
		{"a variable of the engine's own", env("HF_TOKEN"), "environment"},
		{"every variable of the engine's own", env("*"), "environment"},
		{"a variable without a name", env("=x"), "environment"},
		{"an empty variable", env("A="), ""},
		{"kfd", device("/dev/kfd"), ""},
		{"a render node", device("/dev/dri/renderD128"), ""},
		{"all render nodes", device("/dev/dri"), ""},
		{"nvidia", device("/dev/nvidia-uvm"), ""},
		{"a disk", device("/dev/sda"), "no GPU's"},
		{"the memory", device("/dev/mem"), "no GPU's"},
		{"every device", device("/dev"), "no GPU's"},
		{"a file with such a name", device("/srv/dev/kfd"), "no GPU's"},
		{"a device by another name", device("/dev/dri/../mem"), "no GPU's"},
		{"a device with options", device("/dev/kfd:/dev/mem"), "no GPU's"},
		{"a device of Podman's own", device("nvidia.com/gpu=all"), "no GPU's"},
		{"a folder", bind("/home/me/.cache/huggingface"), ""},
		{"a disk for weights", bind("/run/media/me/weights"), ""},
		{"a relative path", bind("weights"), "not the absolute path"},
		{"a path with steps back", bind("/home/me/../../etc"), "not the absolute path"},
		{"the machine's root", bind("/"), "not the absolute path"},
		{"over the container's root", func(s *ServerSpec) { s.Binds = []Bind{{Source: "/w", Target: "/"}} }, "not the absolute path"},
		{"more options, for Podman", bind("/w,bind-propagation=shared"), "comma"},
		{"more options in the target", func(s *ServerSpec) { s.Binds = []Bind{{Source: "/w", Target: "/t,U=true"}} }, "comma"},
		{"Docker's socket", bind("/var/run/docker.sock"), "socket"},
		{"Docker's socket by its own name", bind("/run/docker.sock"), "socket"},
		{"the folder of Docker's socket", bind("/run"), "socket"},
		{"the same by another name", bind("/var/run"), "socket"},
		{"Podman's socket", bind("/run/user/1000/podman/podman.sock"), "socket"},
		{"the folder of a user's sockets", bind("/run/user/1000"), "socket"},
		{"everything variable", bind("/var"), "socket"},
		{"the images", bind("/var/lib/docker"), "socket"},
		{"this engine's socket", bind("/srv/engine"), "socket"},
		{"the system's settings", bind("/etc"), "the system's"},
		{"a file of them", bind("/etc/shadow"), "the system's"},
		{"the kernel's", bind("/proc/1"), "the system's"},
		{"all devices", bind("/dev"), "the system's"},
	}
	for _, tt := range tests {
		s := serverSpec()
		tt.change(&s)
		err := s.check("/srv/engine/sock")
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v; want %q", tt.name, err, tt.want)
		}
	}
}

// serverEngine is a fake engine that makes what it is asked for, changed by lie,
// and says what it was asked to remove.
func serverEngine(t *testing.T, lie func(object)) (e *Engine, removed *[]string) {
	t.Helper()
	version, info := rootful(t)
	made, removed := object{}, new([]string)
	e = fakeEngine{
		"GET /version": reply(version), "GET /info": reply(info),
		"POST /containers/create": func(w http.ResponseWriter, r *http.Request) {
			_ = json.NewDecoder(r.Body).Decode(&made)
			reply(object{"Id": "0123456789abcdef"})(w, r)
		},
		"GET /containers/0123456789abcdef/json": func(w http.ResponseWriter, r *http.Request) {
			host := made["HostConfig"].(object)
			got := object{"User": made["User"], "NetworkMode": host["NetworkMode"], "Privileged": host["Privileged"]}
			lie(got)
			reply(object{"Id": "0123456789abcdef", "Config": object{"User": got["User"]}, "HostConfig": got})(w, r)
		},
		"DELETE /containers/0123456789abcdef": func(w http.ResponseWriter, _ *http.Request) {
			*removed = append(*removed, "0123456789abcdef")
			w.WriteHeader(http.StatusNoContent)
		},
	}.open(t)
	if _, err := e.CheckServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	return e, removed
}

func TestServerThatIsNotWhatWasAskedForIsRemoved(t *testing.T) {
	tests := []struct {
		name, want string
		lie        func(object)
	}{
		{"honest", "", func(object) {}},
		{"with a network", `network "bridge"`, func(o object) { o["NetworkMode"] = "bridge" }},
		{"privileged", "privileged", func(o object) { o["Privileged"] = true }},
		{"as root", `run as ""`, func(o object) { o["User"] = "" }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e, removed := serverEngine(t, tt.lie)
			id, err := e.CreateServer(t.Context(), serverSpec())
			if tt.want == "" {
				if err != nil || id != "0123456789abcdef" || len(*removed) != 0 {
					t.Errorf("CreateServer = %q, %v; removed %v", id, err, *removed)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) || len(*removed) != 1 {
				t.Errorf("CreateServer: %v, removed %v; want %q", err, *removed, tt.want)
			}
		})
	}
}

// What check refuses is not asked of the engine.
func TestRefusedServersAreNotAskedFor(t *testing.T) {
	e, _ := serverEngine(t, func(object) {})
	for name, change := range map[string]func(*ServerSpec){
		"as root":                   func(s *ServerSpec) { s.UID = 0 },
		"on the machine's network":  func(s *ServerSpec) { s.Network = "host" },
		"with this engine's socket": func(s *ServerSpec) { s.Binds = []Bind{{e.Socket(), "/s", true}} },
	} {
		s := serverSpec()
		change(&s)
		if id, err := e.CreateServer(t.Context(), s); err == nil {
			t.Errorf("%s: created %s", name, id)
		}
	}
}

func TestTakenNamesHaveAType(t *testing.T) {
	for text, status := range map[string]int{
		`Conflict. The container name "/s" is already in use by container "0123".`:                                                                           http.StatusConflict,
		`container create: creating container storage: the container name "s" is already in use by 0123. You have to remove it: that name is already in use`: http.StatusInternalServerError,
	} {
		version, info := rootful(t)
		e := fakeEngine{"GET /version": reply(version), "GET /info": reply(info), "POST /containers/create": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_ = json.NewEncoder(w).Encode(object{"message": text})
		}}.open(t)
		if _, err := e.CheckServer(t.Context()); err != nil {
			t.Fatal(err)
		}
		var taken *NameTakenError
		if _, err := e.CreateServer(t.Context(), serverSpec()); !errors.As(err, &taken) || taken.Name != "s" {
			t.Errorf("%d %q: %v", status, text, err)
		}
	}
}

func TestServersAreMadeOnCheckedEnginesOnly(t *testing.T) {
	version, info := rootful(t)
	e := fakeEngine{"GET /version": reply(version), "GET /info": reply(info)}.open(t)
	if _, err := e.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := e.CreateServer(t.Context(), serverSpec()); !errors.Is(err, errServerUnchecked) {
		t.Errorf("CreateServer before CheckServer: %v", err)
	}
}

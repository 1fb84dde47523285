package containers

import "fmt"

// The labels that all our containers carry. LabelLauncher may be missing on a
// wall and on a model server, which outlive the launcher that started them.
const (
	LabelRole     = "dev.sallyport.role"     // one of the Role constants
	LabelSandbox  = "dev.sallyport.sandbox"  // the sandbox's id
	LabelOwner    = "dev.sallyport.owner"    // uid of the user it belongs to
	LabelLauncher = "dev.sallyport.launcher" // "pid:starttime" of the launcher it lives and dies with
	LabelProject  = "dev.sallyport.project"  // the project folder
	LabelModel    = "dev.sallyport.model"    // the model's name, on a server and a pull
)

// The roles of our containers.
const (
	RoleWall   = "wall"
	RoleHolder = "holder"
	RoleAgent  = "agent"
	RoleModel  = "model"  // a demo model, which ends with its launcher
	RoleServer = "server" // a model server, which outlives the launcher
	RolePull   = "pull"   // fetches a model's weights
	RoleProbe  = "probe"  // of gateway verify, which removes it; a network too
)

// checkLabels refuses a container that Sweep could not tell from somebody
// else's: it would be left behind for ever, or swept while in use.
func checkLabels(name string, labels map[string]string) error {
	required := []string{LabelRole, LabelOwner}
	switch labels[LabelRole] {
	case RoleWall:
	case RoleServer, RolePull:
		required = append(required, LabelModel)
	case RoleHolder, RoleAgent, RoleModel, RoleProbe:
		required = append(required, LabelLauncher)
	default:
		return fmt.Errorf("create container %s: label %s is %q: no role of ours", name, LabelRole, labels[LabelRole])
	}
	for _, key := range required {
		if labels[key] == "" {
			return fmt.Errorf("create container %s: label %s is missing", name, key)
		}
	}
	return nil
}

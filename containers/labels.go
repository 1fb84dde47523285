package containers

import "fmt"

// The labels that all our containers carry. LabelLauncher may be missing on a
// wall, which outlives the launcher that started it.
const (
	LabelRole     = "dev.sallyport.role"     // one of the Role constants
	LabelSandbox  = "dev.sallyport.sandbox"  // the sandbox's id
	LabelOwner    = "dev.sallyport.owner"    // uid of the user it belongs to
	LabelLauncher = "dev.sallyport.launcher" // "pid:starttime" of the launcher it lives and dies with
	LabelProject  = "dev.sallyport.project"  // the project folder
)

// The roles of our containers.
const (
	RoleWall   = "wall"
	RoleHolder = "holder"
	RoleAgent  = "agent"
	RoleModel  = "model"
)

// checkLabels refuses a container that Sweep could not tell from somebody
// else's: it would be left behind for ever, or swept while in use.
func checkLabels(name string, labels map[string]string) error {
	required := []string{LabelRole, LabelOwner}
	switch labels[LabelRole] {
	case RoleWall:
	case RoleHolder, RoleAgent, RoleModel:
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

package peer

// OpenSSH is `ssh -L` of the user's: it listens at address, and each connection
// leads to the unix socket on host, a name of the user's ssh configuration. With no
// cipher it takes what it and the server prefer.
func OpenSSH(name, address, host, socket, cipher string) Spec {
	command := []string{"ssh", "-N", "-T", "-n",
		"-o", "ControlMaster=no", "-o", "ControlPath=none", "-o", "BatchMode=yes",
		"-o", "ExitOnForwardFailure=yes", "-L", address + ":" + socket}
	if cipher != "" {
		command = append(command, "-c", cipher)
	}
	return Spec{Name: name, Command: append(command, host), Ready: "tcp:" + address}
}

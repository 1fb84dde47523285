// Package lab builds the three hosts that the end-to-end tests run on, as
// namespaces of this machine with no route to any real network: a laptop with a
// Docker engine of its own, a GPU host with OpenSSH's sshd, and an internet that
// answers everything and keeps each packet that reaches it.
//
//	laptop  198.51.100.1 ── lan0 ── lan0 ── 198.51.100.2  gpuhost
//	   wan0                                               wan0
//	     └── 198.51.100.5 ── internet 203.0.113.0/24 ── 198.51.100.9 ──┘
//	                                  2001:db8::/32
//
// Both hosts' default routes lead to the internet, so that a leak arrives where
// it is counted. Each host is a file tree of a Debian release, under an overlay,
// with its own process, mount, network and host-name namespaces: whatever a test
// starts there, daemons and containers included, ends when the lab is closed or
// the test process dies.
//
// It is test support: it needs root, and it knows nothing of Sallyport except
// how to have its agent image built.
package lab

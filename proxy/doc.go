// Package proxy holds the three TCP servers that a sandbox can talk to: Forward,
// the forward proxy on goproxy; Intercept, which refuses every other connection
// after learning what it wanted; and Model, the model endpoint on
// net/http. One instance serves one sandbox. The package decides
// nothing (package policy does), resolves and dials nothing (it is handed
// functions that do) and keeps no record (it is handed one): it speaks HTTP and
// TLS's first message, and sees to it that what was checked is what is sent.
package proxy

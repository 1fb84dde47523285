package load

// jobs are what a worker can do, by name. Each is in a file of its own.
var jobs = map[string]Job{
	"get":    As(get),
	"events": As(events),
	"burst":  As(burst),
	"hold":   As(hold),

	"refuse":    As(refuse),
	"intercept": As(intercepted),
	"connect":   As(connects),
	"pass":      As(passed),

	"names": As(names),

	"flood":      As(flood),
	"spin":       As(spin),
	"each-event": As(eachEvent),

	"ssh-round-trips":  As(roundTrips),
	"ssh-channels":     As(newChannels),
	"ssh-bulk":         As(bulk),
	"ssh-first-events": As(firstEvents),
}

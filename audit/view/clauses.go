package view

import "github.com/sallyport/sallyport/audit"

// Why nothing would help, where several clauses say the same.
const (
	malformed = "What cannot be read in one way only is refused, whatever the rules: two readers could take it for two different things."
	ownModel  = "The model endpoint takes what its agent needs, in the form that is known, and nothing else; the configuration does not widen that."
	tlsOnly   = "On an allowed host's port 443 passes TLS for that host alone, so that a rule for one host does not open another one."
)

const throughProxy = "What follows allows the host that it named, once it is asked for through HTTP_PROXY or HTTPS_PROXY; the direct connection stays refused."

// everywhere are the clauses of all layers.
var everywhere = []clause{
	{rule: "lost", decided: "none: these attempts were refused, and counted", text: "They were refused like all others, but came too fast for the record, or while the gateway was away: only their number is known.",
		never: "It is not one attempt but a count, so there is nothing to allow."},
	{rule: audit.RuleNotKept, decided: "audit.on_failure", text: "The record could not be written for a time. With on_failure: deny what was tried meanwhile was refused for that; with continue it was decided as usual. This event says how many attempts have no event of their own.",
		never: "It is not an attempt but a count of missing events. Free the disk, or look into the gateway's log."},
	{rule: audit.RuleSetAside, decided: "none: it is about the record itself", text: "The record before this one was damaged or is gone. What was left of it was renamed, not deleted, and a new one begun.", never: "It is not an attempt."},
	{rule: audit.RuleCut, decided: "none: it is about the record itself", text: "Events before this one are missing from the record, though they had been written.", never: "It is not an attempt. `gateway audit verify` says what is missing."},
	{begin: "audit record could not be written", decided: "the record comes first", text: "What cannot be recorded is refused: the disk is full or read-only, or the record's file is damaged. `gateway status` and the gateway's log say which.",
		never: "No rule of policy.allow has to do with it. Free the disk; or audit.on_failure: continue lets things pass without a record, which we advise against."},
}

// allowed are the clauses of what was let through.
var allowed = []clause{
	{rule: "--unsafe-mount", decided: "--unsafe-mount", text: "Whoever started the sandbox asked for a folder that is refused otherwise."},
	{rule: "model-place", decided: "none: the gateway moved by itself", text: "The model is served in several places, and the gateway went on to another one."},
	{layer: audit.LayerModel, in: "answered by the gateway", decided: "the gateway answers this itself", text: "It went nowhere: the gateway gave the answer."},
	{layer: audit.LayerModel, decided: "the model endpoint", text: "It is one of the method and path pairs that the agent needs of its own model."},
	{layer: audit.LayerProxy, decided: "policy.allow", text: "A rule of your configuration allows that host and port."},
	{layer: audit.LayerControl, decided: "none: it is about the gateway itself", text: "Something that the gateway did, or that its user asked for."},
	{decided: "it was allowed", text: "The record holds no more about why."},
}

// clausesOf are the clauses of what was refused, by layer. The order counts.
var clausesOf = map[audit.Layer][]clause{
	audit.LayerProxy: proxyClauses, audit.LayerIntercept: interceptClauses, audit.LayerDNS: dnsClauses,
	audit.LayerModel: modelClauses, audit.LayerPacket: packetClauses, audit.LayerControl: controlClauses,
}

const theDefault = "the default: what no rule of policy.allow names is refused"

var proxyClauses = []clause{
	{begin: "not on the allow list", decided: theDefault, text: "No rule of policy.allow names this host with this port.", config: byHost},
	{begin: "too many connections", decided: "a limit of each sandbox", text: "The sandbox had 256 connections open to the forward proxy.", never: "The limit is fixed. It goes when connections are closed."},
	{begin: "an address, and rules name hosts", decided: "rules name hosts", text: "The program asked the proxy for an address in some spelling.", never: "No rule can name an address: the gateway looks the host up itself. Have the program ask for the host by its name."},
	{in: "an address; only names can be allowed", decided: "rules name hosts", text: "The program asked the proxy for an address in some spelling.", never: "No rule can name an address: the gateway looks the host up itself. Have the program ask for the host by its name."},
	{in: "not a plain host name", decided: "rules name hosts", text: "What was asked for is not a host name in its plain form.", never: "A host is allowed by its plain name: letters, digits, hyphens and dots, without a user, zone or escape."},
	{begin: "not a valid host name", decided: "rules name hosts", text: "What was asked for is not a valid host name.", never: "A host is allowed by its plain name: letters, digits, hyphens and dots."},
	{in: "no port between 1 and 65535", decided: "rules name ports", text: "What was asked for names no port.", never: "A host is allowed at the ports that its rule lists; the program must ask for one."},
	{begin: "not a proxy request", decided: "this is the forward proxy", text: "Something asked the proxy as if it were a web server.", never: "The proxy serves no pages. Point HTTP_PROXY and HTTPS_PROXY at it, and allow the host that is wanted."},
	{begin: "the request's head could not be followed", decided: "requests must be unambiguous", text: "The request's head was too long or broken.", never: malformed},
	{begin: "ambiguous HTTP request", decided: "requests must be unambiguous", text: "The request could be read in more than one way, as in request smuggling.", never: malformed},
	{begin: "a CONNECT request with a body", decided: "requests must be unambiguous", text: "CONNECT has no body.", never: malformed},
	{begin: "scheme", decided: "plain HTTP or CONNECT", text: "The request line names a scheme that the proxy does not fetch by itself.", never: "TLS goes through CONNECT, other schemes go nowhere. Allow the host, and have the program use CONNECT."},
	{begin: "an upgrade over plain HTTP", decided: "no upgrade over plain HTTP", text: "A WebSocket or another protocol was asked for over plain HTTP.", never: "Through CONNECT an allowed host can be spoken to in any protocol (port 443: TLS)."},
	{begin: "the Host header", decided: "one host for each request", text: "The request line names one host and the Host header another one.", never: malformed},
	{begin: "not TLS, on port 443", decided: "port 443 carries TLS", text: "The host is allowed, but something else than TLS was sent to its port 443.", never: tlsOnly},
	{begin: "a TLS ClientHello", decided: "the TLS name must be the host's", text: "The host is allowed, but the TLS hello that was sent cannot be read or names no server.", never: tlsOnly},
	{begin: "TLS server name", decided: "the TLS name must be the host's", text: "The host is allowed, but the TLS hello names another one.", never: tlsOnly},
	{begin: "the connection ended within a TLS ClientHello", decided: "the TLS name must be the host's", text: "The program hung up before it had said which server it wants.", never: "The host is allowed. There is nothing more to allow."},
	{begin: "not connected", in: "refused", decided: "private, local and metadata addresses are never reached", text: "A rule allows the host, but its name points to an address that no rule reaches.",
		never: "A name must not lead into your own network, so no rule allows these addresses. A model server is reached with models[].endpoint instead."},
	{begin: "not connected", decided: "the host could not be reached", text: "A rule allows the host; the connection from this machine failed. The reason is in the event.", never: "It is allowed already: look at your network, or at the host."},
	{begin: "nothing is dialled without a decision", decided: "no decision was made", text: "A request came to the proxy's engine without a decision: a bug of ours that was caught.", never: "Please report it."},
	{begin: "idle for", decided: "the tunnel's time limit", text: "Nothing passed through it for so long.", never: "The host is allowed. There is nothing more to allow."},
	{begin: "ended before it was connected", decided: "none: the program went away", text: "A rule allows the host, but the program hung up before it was connected.", never: "The host is allowed. There is nothing more to allow."},
	{begin: "the connection could not be taken over", decided: "none: it failed here", text: "A rule allows the host, but the connection could not be handed on.", never: "It is allowed already; the gateway's log says more."},
}

var interceptClauses = []clause{
	{begin: "no direct connection leaves the sandbox", in: "too many connections", decided: "no direct connection leaves the sandbox",
		text: "It went around the proxy, and came while too many others were looked into.", then: throughProxy, config: byName},
	{begin: "no direct connection leaves the sandbox", decided: "no direct connection leaves the sandbox",
		text: "The program went around the proxy.", then: throughProxy, config: byName},
}

var dnsClauses = []clause{
	{begin: "names are not looked up", decided: "no name is looked up in a sandbox",
		text: "DNS never leaves: an allowed host is reached through HTTP_PROXY or HTTPS_PROXY, and the gateway looks it up. Most programs ask for a name because they do not use the proxy.", then: "What follows allows the host there, at port 443.", config: byQuery},
	{begin: "malformed DNS message", decided: "only well-formed queries are answered", text: "It was no DNS query that can be read.", never: malformed},
	{begin: "a DNS response, not a query", decided: "only queries are answered", text: "A DNS answer was sent to the server.", never: "Nothing is to be allowed in it."},
	{begin: "DNS opcode not supported", decided: "only queries are answered", text: "It asked for something else than a look-up, such as an update.", never: "Names are neither looked up nor changed from a sandbox."},
	{begin: "EDNS version not supported", decided: "only known versions are answered", text: "It is of a version of EDNS that does not exist yet.", never: "The program is told so, and asks again without."},
	{begin: "DNS class not supported", decided: "only the internet's names are answered", text: "It asked in another class than IN, such as CHAOS.", never: "Nothing is to be allowed in it."},
	{begin: "DNS zone transfers are never made", decided: "no zone transfer", text: "It asked for a whole zone.", never: "A zone is never handed over, whatever the rules."},
	{begin: "too many DNS connections", decided: "a limit of each sandbox", text: "The sandbox had 16 DNS connections open.", never: "The limit is fixed. It goes when connections are closed."},
	{begin: "DNS connection ended without a whole message", decided: "none: nothing was asked", text: "A connection for DNS came and brought no query.", never: "There is nothing to allow."},
	{begin: "not a DNS query, or one of more than 4096 bytes", decided: "only queries are answered", text: "A connection to port 53 carried something that is no DNS query of a usual size.", never: malformed},
}

var modelClauses = []clause{
	{in: "is refused: only what the agent needs of its model is forwarded", decided: "the agent's own method and path pairs",
		text:  "A model server has administrative endpoints, most of them without a key: loading code and adapters, changing weights, reading other requests. A sandbox reaches none of them.",
		never: "No configuration opens another path of a model server to a sandbox."},
	{begin: "this is the model endpoint, not a proxy", decided: "the model endpoint is no proxy", text: "It was asked for another host.", never: "The proxy is at the address in HTTP_PROXY; allow the host there."},
	{begin: "the request's head could not be followed", decided: "requests must be unambiguous", text: "The request's head was too long or broken.", never: malformed},
	{begin: "ambiguous HTTP request", decided: "requests must be unambiguous", text: "The request could be read in more than one way, as in request smuggling.", never: malformed},
	{begin: "connection upgrades are refused", decided: "plain requests only", text: "Another protocol was asked for.", never: ownModel},
	{begin: "a body where none belongs", decided: "plain requests only", text: "The request has a body, and its method has none.", never: ownModel},
	{begin: "the request body is longer than", decided: "a limit of each request", text: "The request was too long.", never: "The limit is fixed; the agent must send less."},
	{begin: "the body did not arrive whole", decided: "none: the agent broke off", text: "The request ended within its body.", never: "There is nothing to allow."},
	{begin: "the request ended while others were served", decided: "none: the agent went away", text: "The request waited for others and its client hung up.", never: "There is nothing to allow."},
	{begin: "too many connections", decided: "a limit of each sandbox", text: "The sandbox had 256 connections open to its model.", never: "The limit is fixed. It goes when connections are closed."},
	{decided: "request bodies are checked", text: "The request's body holds something that is not forwarded to a model: the reason names it.", never: ownModel},
}

var packetClauses = []clause{
	{rule: "spoof", decided: "a sandbox has one address", text: "The packet's source address is not the sandbox's own: it was forged.", never: "No forged packet is let out, whatever the rules."},
	{rule: "port", decided: "the wall's own ports", text: "It was aimed at a port that the wall itself uses.", never: "Nothing is served there for sandboxes."},
	{rule: "closed", decided: "fail closed", text: "The gateway was not running, so there was nobody to decide: connection refused.", never: "It is not a matter of rules. The launcher starts the gateway again by itself; `gateway status` says whether it runs."},
	{rule: "stray", decided: "every segment belongs to a connection", text: "It is a TCP segment of no connection: a crafted one, or the rest of one that has ended.", never: "It belongs to nothing that could be allowed."},
	{rule: "fragment", decided: "packets come whole", text: "It was a piece of an IP packet. Nothing that is answered needs pieces.", never: "No packet is let out, whole or in pieces: allowed hosts are reached through the proxy, over TCP."},
	{rule: "options", decided: "packets come without IP options", text: "The packet's IP header asked for more than delivery, such as a route of its own choice.", never: "No packet is let out, with options or without: allowed hosts are reached through the proxy, over TCP."},
	{rule: "address", decided: "DNS goes to servers", text: "A DNS query was sent to a loopback or multicast address from outside of it.", never: "Names are not looked up in a sandbox: an allowed host is reached through the proxy, which looks it up."},
	{rule: "frame", decided: "only IP packets are looked at", text: "It was a frame of the local network and not an IP packet to the gateway: ARP, another protocol, a VLAN's, or for a hardware address that is not there.",
		never: "Nothing but the gateway is on a sandbox's network, so there is nobody to ask or to tell."},
	{rule: "half-open", decided: "connections must be completed", text: "A connection was begun and not completed, as a port scan does.", never: "A completed connection is looked into, and its event says what would allow it."},
	{rule: "syn", decided: "connections must be completed", text: "A connection was begun and not completed, as a port scan does.", never: "A completed connection is looked into, and its event says what would allow it."},
	{rule: "other", decided: "only TCP and DNS are answered", text: "It was a packet of another protocol: UDP (QUIC, NTP), ICMP (ping), or a raw one.",
		never: "A sandbox has no way out for packets: allowed hosts are reached through the proxy, over TCP. No rule lets UDP, ICMP or other protocols out."},
}

var controlClauses = []clause{
	{rule: "foreign-interface", decided: "the sandbox's network is the wall's alone", text: "Somebody put another network interface into the sandbox. It was taken down at once.",
		never: "A second interface would be a way around the gateway. Look for what did it: `docker network connect`, for example."},
	{rule: "wall-changed", decided: "the wall's network is the wall's alone", text: "Somebody changed firewall rules, routes or interfaces in the wall's own network namespace. The wall put them right at once; nothing could leave meanwhile.",
		never: "No sandbox can do this, only root of your machine: look for a program that changes the firewall in every network namespace."},
	{rule: "wall-socket", decided: "a one-time token each", text: "Something connected to the wall's socket without the token of a wall or sandbox that is expected.", never: "Only the launcher makes these tokens. If it happens while nothing of yours starts, something else is on your machine."},
	{rule: "page", decided: "the audit page is its user's alone", text: "Something on this machine, or a web page in your browser, asked for the audit page without its token, or under another name than its own.",
		never: "A fresh address is printed by `gateway status` and opened by `gateway audit --web`; nothing else opens the page."},
	{rule: "control-socket", decided: "one user each", text: "Another user of this machine tried to control your gateway.", never: "The gateway obeys its own user and root."},
}

package view

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/audit"
)

// Every rule and reason that the packages of this module write into an event has
// an explanation of its own. Reasons that are put together are looked for by how
// they begin.
func TestEveryReasonIsExplained(t *testing.T) {
	all := map[string]audit.Event{} // by layer, rule and reason
	for folder, layer := range map[string]audit.Layer{
		"policy": audit.LayerProxy, "proxy": audit.LayerProxy, "dnsblock": audit.LayerDNS, "sandbox": audit.LayerPacket, "wall": audit.LayerPacket,
		"cmd/gateway": audit.LayerControl, "audit": audit.LayerControl,
	} {
		files, err := filepath.Glob(filepath.Join("..", "..", folder, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v", folder, err)
		}
		s := scan{names: map[string]string{}}
		for _, pass := range []func(file string, f *ast.File){s.declared, s.read} {
			for _, file := range files {
				if strings.HasSuffix(file, "_test.go") {
					continue
				}
				f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
				if err != nil {
					t.Fatal(err)
				}
				s.layer = layer
				if folder == "proxy" {
					s.layer = proxyLayer(filepath.Base(file))
				}
				pass(file, f)
			}
		}
		for _, e := range s.found {
			all[string(e.Layer)+"|"+e.Rule+"|"+e.Reason] = e
		}
	}
	for key, e := range all {
		if _, known := clauseOf(e); !known {
			t.Errorf("%s has no explanation", key)
		}
	}
	if len(all) < 50 {
		t.Errorf("only %d reasons were found: the scan has gone blind", len(all))
	}
	for _, want := range []string{ // one for each way that the scan knows
		"proxy||not on the allow list", "proxy||a TLS ClientHello without a server name (SNI)", "proxy||x is an address; only names can be allowed", "model||a body where none belongs",
		"intercept||no direct connection leaves the sandbox", "dns||names are not looked up", "dns||too many DNS connections at a time", "packet|spoof|", "packet|other|", "control|not-kept|",
	} {
		if _, ok := all[want]; !ok {
			t.Errorf("the scan no longer finds %q", want)
		}
	}
}

// proxyLayer is the layer of the events that a file of package proxy makes.
func proxyLayer(file string) audit.Layer {
	switch {
	case file == "intercept.go" || file == "sniff.go":
		return audit.LayerIntercept
	case file == "admit.go" || file == "local.go" || file == "upstream.go" || file == "body.go" || strings.HasPrefix(file, "model"):
		return audit.LayerModel
	}
	return audit.LayerProxy
}

// scan reads reasons out of source.
type scan struct {
	layer audit.Layer
	names map[string]string // of texts and errors that have one
	found []audit.Event
}

func (s *scan) add(e audit.Event) {
	if e.Layer == "" {
		e.Layer = s.layer
	}
	if e.Verdict == "" {
		e.Verdict = "denied"
	}
	if (e.Rule != "" || e.Reason != "") && !strings.HasPrefix(e.Reason, "%") {
		s.found = append(s.found, e)
	}
}

// declared notes what names stand for, and the wall's rules.
func (s *scan) declared(file string, f *ast.File) {
	ast.Inspect(f, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		for i, name := range spec.Names {
			if i >= len(spec.Values) {
				continue
			}
			text := s.text(spec.Values[i])
			s.names[name.Name] = text
			switch base := filepath.Base(file); {
			case strings.HasPrefix(name.Name, "rule") && base == "halfopen.go":
				s.add(audit.Event{Rule: text})
			case strings.HasPrefix(name.Name, "Rule") && base == "failure.go":
				s.add(audit.Event{Rule: text})
			case name.Name == "ruleNames" || name.Name == "packetReasons": // number: rule, and rule: reason
				for _, x := range spec.Values[i].(*ast.CompositeLit).Elts {
					kv := x.(*ast.KeyValueExpr)
					rule := kv.Value
					if name.Name == "packetReasons" {
						rule = kv.Key
					}
					s.add(audit.Event{Rule: s.text(rule)})
				}
			case base == "target.go" && strings.HasPrefix(name.Name, "err"): // said of a host
				s.add(audit.Event{Reason: "x is " + text})
			}
		}
		return true
	})
}

// calls are the functions that take a reason, and which argument it is.
var calls = map[string]int{"invalid": 0, "forbidden": 0, "denied": 1, "apiRefusal": 2}

func (s *scan) read(file string, f *ast.File) {
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			if i, ok := calls[name(n.Fun)]; ok && i < len(n.Args) {
				s.add(audit.Event{Reason: s.text(n.Args[i])})
			}
			if s.layer == audit.LayerDNS && name(n.Fun) == "refuse" {
				s.add(audit.Event{Reason: s.text(n.Args[len(n.Args)/2])}) // (rcode, reason), (conn, peer, reason, bytes)
			}
		case *ast.CompositeLit:
			s.literal(n)
		case *ast.ReturnStmt:
			if len(n.Results) != 2 {
				break
			}
			_, plain := n.Results[1].(*ast.BasicLit)
			if base := filepath.Base(file); base == "gate.go" || s.layer == audit.LayerDNS && plain { // (rcode, reason)
				s.add(audit.Event{Reason: s.text(n.Results[1])})
			}
		case *ast.AssignStmt:
			if len(n.Lhs) == len(n.Rhs) {
				for i := range n.Lhs {
					if what := name(n.Lhs[i]); what == "reason" && s.layer != audit.LayerPacket {
						s.add(audit.Event{Reason: s.text(n.Rhs[i])})
					}
				}
			}
		}
		return true
	})
}

// literal reads refusals and events that are written as composite literals.
func (s *scan) literal(n *ast.CompositeLit) {
	kind := name(n.Type)
	if kind != "Event" && kind != "refusal" && kind != "apiRefusal" && kind != "outcome" && kind != "Decision" {
		return
	}
	var e audit.Event
	for i, x := range n.Elts {
		kv, ok := x.(*ast.KeyValueExpr)
		if !ok {
			if kind == "apiRefusal" && i == 2 {
				e.Reason = s.text(x)
			}
			continue
		}
		switch name(kv.Key) {
		case "Rule":
			e.Rule = s.text(kv.Value)
		case "reason", "Reason":
			e.Reason = s.text(kv.Value)
		case "Verdict":
			if call, ok := kv.Value.(*ast.CallExpr); ok && name(call.Fun.(*ast.SelectorExpr).X) == "Allow" || name(kv.Value) == "Allow" {
				e.Verdict = "allowed"
			}
		case "Layer":
			e.Layer = audit.Layer(strings.ToLower(strings.TrimPrefix(name(kv.Value), "Layer")))
		}
	}
	s.add(e)
}

// name is the last part of a name.
func name(x ast.Expr) string {
	switch x := x.(type) {
	case *ast.SelectorExpr:
		return x.Sel.Name
	case *ast.Ident:
		return x.Name
	}
	return ""
}

// text is how a text begins that may be put together from pieces; empty: it is
// only known when the program runs.
func (s *scan) text(x ast.Expr) string {
	switch x := x.(type) {
	case *ast.BasicLit:
		text, _ := strconv.Unquote(x.Value)
		return text
	case *ast.BinaryExpr:
		return s.text(x.X)
	case *ast.Ident:
		return s.names[x.Name]
	case *ast.CallExpr:
		if called := name(x.Fun); (called == "Sprintf" || called == "New") && len(x.Args) > 0 {
			return s.text(x.Args[0])
		}
		if sel, ok := x.Fun.(*ast.SelectorExpr); ok && sel.Sel.Name == "Error" {
			return s.text(sel.X)
		}
	}
	return ""
}

package sandbox

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
)

// unhex reads hexadecimal digits, with spaces for the eye.
func unhex(text string) []byte {
	data, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		panic(err)
	}
	return data
}

const (
	v4 = "4500 0028 0000 0000 40 %PROTO% 0000 0ad50000 cb007105" // 10.213.0.0 to 203.0.113.5
	v6 = "60000000 0028 %PROTO% 40 fd000000000000000000000000000002 20010db8000000000000000000000005"
)

func with(header, proto, rest string) []byte {
	return unhex(strings.Replace(header, "%PROTO%", proto, 1) + rest)
}

func TestParseHeader(t *testing.T) {
	src4, dst4 := netip.MustParseAddr("10.213.0.0"), netip.MustParseAddr("203.0.113.5")
	src6, dst6 := netip.MustParseAddr("fd00::2"), netip.MustParseAddr("2001:db8::5")
	for name, c := range map[string]struct {
		data []byte
		want header
		ok   bool
	}{
		"empty":                   {nil, header{}, false},
		"neither version":         {unhex("55"), header{}, false},
		"IPv4 cut":                {with(v4, "06", "")[:19], header{}, false},
		"IPv4 with short IHL":     {append([]byte{0x44}, with(v4, "06", "")[1:]...), header{}, false},
		"IPv4 without payload":    {with(v4, "06", ""), header{6, src4, dst4, 0, 0, 0}, true},
		"TCP":                     {with(v4, "06", "03e8 01bb"), header{6, src4, dst4, 1000, 443, 0}, true},
		"TCP with its sequence":   {with(v4, "06", "03e8 01bb 01020304"), header{6, src4, dst4, 1000, 443, 0x01020304}, true},
		"TCP cut in the ports":    {with(v4, "06", "03e8 01"), header{6, src4, dst4, 0, 0, 0}, true},
		"UDP":                     {with(v4, "11", "03e8 0035 0008 0000"), header{17, src4, dst4, 1000, 53, 0}, true},
		"ICMP echo":               {with(v4, "01", "0800 0000"), header{1, src4, dst4, 0, 0x0800, 0}, true},
		"GRE has no ports":        {with(v4, "2f", "03e8 01bb"), header{47, src4, dst4, 0, 0, 0}, true},
		"IPv4 with options":       {append([]byte{0x46}, append(with(v4, "11", "")[1:], unhex("01010101 03e8 0035")...)...), header{17, src4, dst4, 1000, 53, 0}, true},
		"IPv4 options cut":        {append([]byte{0x4f}, with(v4, "11", "01010101")[1:]...), header{17, src4, dst4, 0, 0, 0}, true},
		"a later fragment":        {append(append(with(v4, "11", "")[:6], 0x00, 0x10), append(with(v4, "11", "")[8:], unhex("03e8 0035")...)...), header{17, src4, dst4, 0, 0, 0}, true},
		"IPv6 cut":                {with(v6, "06", "")[:39], header{}, false},
		"TCP over IPv6":           {with(v6, "06", "03e8 01bb"), header{6, src6, dst6, 1000, 443, 0}, true},
		"ICMPv6":                  {with(v6, "3a", "8000"), header{58, src6, dst6, 0, 0x8000, 0}, true},
		"UDP behind hop-by-hop":   {with(v6, "00", "1100 000000000000 03e8 0035"), header{17, src6, dst6, 1000, 53, 0}, true},
		"UDP behind two options":  {with(v6, "3c", "2b01 0000000000000000000000000000 1100 000000000000 03e8 0035"), header{17, src6, dst6, 1000, 53, 0}, true},
		"the first fragment":      {with(v6, "2c", "1100 0001 00000001 03e8 0035"), header{17, src6, dst6, 1000, 53, 0}, true},
		"a later IPv6 fragment":   {with(v6, "2c", "1100 0011 00000001 03e8 0035"), header{44, src6, dst6, 0, 0, 0}, true},
		"an option cut":           {with(v6, "00", "11ff 0000"), header{0, src6, dst6, 0, 0, 0}, true},
		"options without an end":  {with(v6, "00", strings.Repeat("0000 000000000000", 11)), header{0, src6, dst6, 0, 0, 0}, true},
		"no next header":          {with(v6, "3b", "03e8 0035"), header{59, src6, dst6, 0, 0, 0}, true},
		"an option of no content": {with(v6, "00", ""), header{0, src6, dst6, 0, 0, 0}, true},
	} {
		if got, ok := parseHeader(c.data); got != c.want || ok != c.ok {
			t.Errorf("%s: %+v %v, wanted %+v %v", name, got, ok, c.want, c.ok)
		}
	}
}

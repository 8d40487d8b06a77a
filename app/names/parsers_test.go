package names

import (
	"iter"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// gathered gives what a parser finds, as text: address hostname mac and the time of expiry in seconds since 1970, 0 for never.
func gathered(parse parser, content string) []string {
	found, _ := gather(parse([]byte(content)), 1000)
	var all []string
	for addr, e := range found {
		if e == (entry{}) {
			continue
		}
		expires := "0"
		if !e.expires.IsZero() {
			expires = e.expires.UTC().Format(time.DateTime)
		}
		all = append(all, strings.Join([]string{addr.String(), e.hostname, e.mac, expires}, "|"))
	}
	slices.Sort(all)
	return all
}

type parserCase struct {
	name, content string
	want          []string
}

func checkParser(t *testing.T, parse parser, cases []parserCase) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := gathered(parse, c.content); !slices.Equal(got, c.want) {
				t.Errorf("%q gives\n%q, want\n%q", c.content, got, c.want)
			}
		})
	}
}

// fuzzParser checks that whatever a file has, what is found of it is fit to be shown, and the same whatever comes after it.
func fuzzParser(f *testing.F, parse parser, cases []parserCase) {
	for _, c := range cases {
		f.Add([]byte(c.content))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		n := 0
		for addr, e := range parse(content) {
			n++
			if !addr.IsValid() || addr.Zone() != "" || addr.Is4In6() {
				t.Errorf("address %v", addr)
			}
			if e.hostname != hostname(e.hostname) || e.mac != "" && e.mac != mac(e.mac) {
				t.Errorf("%v is %q, %q", addr, e.hostname, e.mac)
			}
		}
		if n > len(content) {
			t.Errorf("%d entries in %d bytes", n, len(content))
		}
		whole := slices.Collect(keys(parse(content)))
		for range parse(content) {
			break // whoever has enough may stop
		}
		if more := slices.Collect(keys(parse(append(slices.Clone(content), "\n"...)))); len(more) < len(whole) {
			t.Errorf("%v with a line's end is %v", whole, more)
		}
	})
}

func keys(all iter.Seq2[netip.Addr, entry]) iter.Seq[netip.Addr] {
	return func(yield func(netip.Addr) bool) {
		for addr := range all {
			if !yield(addr) {
				return
			}
		}
	}
}

func TestGatherHasBounds(t *testing.T) {
	found, more := gather(parseHosts([]byte("10.0.0.1 a\n10.0.0.2 b\n10.0.0.3 c\n")), 2)
	if more == nil || !slices.Equal(slices.Sorted(maps.Keys(stringKeys(found))), []string{"10.0.0.1", "10.0.0.2"}) {
		t.Errorf("%v, more: %v", found, more)
	}
	if found, more := gather(parseDnsmasq([]byte("0 * 10.0.0.1 a *\n0 * 10.0.0.2 b *\n0 * 10.0.0.1 c *\n")), 2); more != nil || len(found) != 2 {
		t.Errorf("%v, more: %v", found, more)
	}
}

func TestLeasesThatAreGoneTakeNoRoom(t *testing.T) {
	free := "lease 10.0.0.1 { binding state free; }\nlease 10.0.0.2 { binding state free; }\n"
	found, more := gather(parseDhcpd([]byte(free+dhcpdLease)), 2)
	if more != nil || found[laptop].hostname != "laptop" {
		t.Errorf("%v, more: %v", found, more)
	}
	found, more = gather(parseDhcpd([]byte(dhcpdLease+free+"lease 192.168.1.133 { binding state free; }\nlease 10.0.0.3 { binding state free; }\n")), 2)
	if more != nil || found[laptop] != (entry{}) || len(found) > 2 {
		t.Errorf("%v, more: %v", found, more)
	}
}

func stringKeys(found map[netip.Addr]entry) map[string]entry {
	all := map[string]entry{}
	for addr, e := range found {
		all[addr.String()] = e
	}
	return all
}

func TestHostnames(t *testing.T) {
	long := strings.Repeat("a", 253)
	for s, want := range map[string]string{
		"laptop": "laptop", "laptop.lan.": "laptop.lan", "": "", ".": "", "a..": "a", "Büro": "Büro", "a b": "a b", long: long, long + ".": long, long + "a": "",
		"a\x00b": "", "a\nb": "", "a\x1b[31m": "", "\xff": "", "a\u202eb": "", "a\u2028b": "", "a\u00a0b": "",
	} {
		if got := hostname(s); got != want {
			t.Errorf("%q is %q, want %q", s, got, want)
		}
	}
}

func TestMACs(t *testing.T) {
	for s, want := range map[string]string{
		"02:00:00:AB:cd:01": "02:00:00:ab:cd:01", "2:0:0:a:b:1": "02:00:00:0a:0b:01", "": "", "*": "", "02:00:00:00:00": "", "02:00:00:00:00:01:02": "",
		"00:00:00:00:00:00": "", "ff:ff:ff:ff:ff:ff": "", "01:00:5e:00:00:01": "", "02:00:00:00:00:1g": "", "02:00:00:00:00:+1": "", "16777217": "",
		"06-02:00:00:00:00:01": "", "002:00:00:00:00:01": "",
	} {
		if got := mac(s); got != want {
			t.Errorf("%q is %q, want %q", s, got, want)
		}
	}
}

func TestFormatIsToldByContent(t *testing.T) {
	for content, want := range map[string]string{
		"":                                  "hosts",
		"\n \n":                             "hosts",
		"# a comment\n192.168.1.1 router\n": "hosts",
		"0 02:00:00:00:00:01 192.168.1.133 laptop *\n":                                      "dnsmasq",
		"# br-lan 0001 7 dhcpd.leases 1700000000 1 128 fd00::1/128\nfd00::1 dhcpd.leases\n": "hosts", // of odhcpd
		"duid 00:01:00:01\n0 1 fd00::1 laptop 00:01\n":                                      "dnsmasq",
		keaHeader4 + "\n": "kea",
		keaHeader6 + "\n": "kea",
		"# see dhcpd.leases(5)\n\nserver-duid \"\\000\";\n": "dhcpd",
		"lease 192.168.1.133 {\n}\n":                        "dhcpd",
		"authoring-byte-order little-endian;\n":             "dhcpd",
		networkdLeases:                                      "networkd",
		networkdOf(""):                                      "networkd",
		"{\"Leases\":[]}\n":                                 "networkd",
		"{\"x\":[]}\n":                                      "none",
		networkdLeases[:100]:                                "none",
		"nonsense\n":                                        "none",
		"\x7fELF\x00\x00\n":                                 "none",
		"1 2 3 4\n":                                         "none",
	} {
		parse := format([]byte(content))
		got := "none"
		for name, of := range map[string]struct {
			content string
			parse   parser
		}{
			"hosts": {"10.9.9.9 a\n", parseHosts}, "dnsmasq": {"0 * 10.9.9.9 a *\n", parseDnsmasq}, "dhcpd": {"lease 10.9.9.9 { client-hostname a; }", parseDhcpd},
			"networkd": {networkdOf(`{"Address":[10,9,9,9],"Hostname":"a","ExpirationRealtimeUSec":1}`), parseNetworkd},
			"kea":      {keaHeader4 + "\n10.9.9.9,,,1,1,,,,a,0,,\n", parseKea},
		} {
			if parse != nil && len(gathered(parse, of.content)) == 1 && len(gathered(of.parse, of.content)) == 1 {
				got = name
			}
		}
		if got != want {
			t.Errorf("%q is %s, want %s", content, got, want)
		}
	}
}

package names

import (
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
)

func TestGivenNames(t *testing.T) {
	const content = "\ufeff# ours\n" +
		"192.168.1.133  laptop # of Ann\n" +
		"\n" +
		"10.0.0.0/8\tinside\r\n" +
		"10.1.2.3/16 lab\n" +
		"fd00:1::/64 guests\n" +
		"2:0:0:0:0:AB Living room  TV\n" +
		"::ffff:10.0.0.9 mapped.\n" +
		"::ffff:172.16.0.0/108 mapped prefix\n" +
		"fd00:1::7/128 single"
	g, err := parseGiven("names", []byte(content))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ addr, mac, host, prefix string }{
		{"192.168.1.133", "", "laptop", ""},
		{"192.168.1.133", "02:00:00:00:00:ab", "laptop", ""}, // an address is more than its MAC
		{"192.168.1.134", "02:00:00:00:00:ab", "Living room  TV", ""},
		{"10.0.0.1", "02:00:00:00:00:ab", "Living room  TV", "inside"},
		{"10.0.0.1", "", "", "inside"},
		{"10.1.0.1", "", "", "lab"},
		{"10.0.0.9", "", "mapped", "inside"},
		{"fd00:1::1", "", "", "guests"},
		{"fd00:1::7", "", "single", "guests"},
		{"172.16.1.1", "", "", "mapped prefix"},
		{"fd00:2::1", "", "", ""},
	} {
		addr := netip.MustParseAddr(c.addr)
		if host, prefix := g.ofHost(addr, c.mac), g.ofPrefix(addr); host != c.host || prefix != c.prefix {
			t.Errorf("%s with MAC %q is %q in %q, want %q in %q", c.addr, c.mac, host, prefix, c.host, c.prefix)
		}
	}
}

func TestWrongNamesFileSaysTheLine(t *testing.T) {
	for content, want := range map[string]string{
		"10.0.0.1 a\n\n10.0.0.2\n":                    "names:3: ",
		"10.0.0.1 a\n10.0.0.1 b\n":                    "names:2: this has a name already",
		"10.0.0.1 a\n10.0.0.1/32 b\n":                 "names:2: this has a name already",
		"10.0.0.0/8 a\n10.1.0.0/8 b\n":                "names:2: this has a name already",
		"02:00:00:00:00:01 a\n2:0:0:0:0:1 b\n":        "names:2: this has a name already",
		"laptop 10.0.0.1\n":                           "names:1: \"laptop\" is not an address",
		"10.0.0.300 a\n":                              "names:1: ",
		"fe80::1%eth0 a\n":                            "names:1: ",
		"10.0.0.0/33 a\n":                             "names:1: ",
		"01:00:5e:00:00:01 a\n":                       "names:1: ",
		"10.0.0.1 \x1b[31mred\n":                      "names:1: ",
		"10.0.0.1 " + strings.Repeat("a", 254) + "\n": "names:1: ",
		strings.Repeat("a", 1000):                     "names:1: ",
		"# a comment\n10.0.0.1 # and no name\n":       "names:2: ",
	} {
		if _, err := parseGiven("names", []byte(content)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: the error is %v, want %q", content, err, want)
		} else if len(err.Error()) > 250 {
			t.Errorf("%q: the error has %d bytes", content, len(err.Error()))
		}
	}
}

func FuzzParseGiven(f *testing.F) {
	f.Add([]byte("192.168.1.133 laptop # of Ann\n10.0.0.0/8 inside\n02:00:00:00:00:01 TV\n"))
	f.Add([]byte("\ufefffd00::/64 a\r\n\n#"))
	f.Fuzz(func(t *testing.T, content []byte) {
		g, err := parseGiven("names", content)
		if (g == nil) != (err != nil) {
			t.Fatalf("%v with the error %v", g, err)
		}
		if g == nil {
			return
		}
		var all []string
		for addr, name := range g.addresses {
			if all = append(all, name); addr.Zone() != "" || addr.Is4In6() {
				t.Errorf("address %v", addr)
			}
		}
		for of, name := range g.macs {
			if all = append(all, name); of != mac(of) {
				t.Errorf("MAC %q", of)
			}
		}
		for prefix, name := range g.prefixes.values {
			if all = append(all, name); prefix != prefix.Masked() || g.ofPrefix(prefix.Addr()) == "" {
				t.Errorf("prefix %v", prefix)
			}
		}
		for _, name := range all {
			if name == "" || name != hostname(name) {
				t.Errorf("name %q", name)
			}
		}
	})
}

// TestGivenNamesWin has a file that changes, is wrong and is gone for a while.
func TestGivenNamesWin(t *testing.T) {
	now := time.Now()
	old := now.Add(-time.Minute)
	s := newSources(t, "leases")
	s.Names.given = &givenFile{file: file{path: s.path("names")}}
	s.write("hosts", "192.168.1.133 hosts\n", old)
	s.write("leases", "0 02:00:00:00:00:02 192.168.1.134 printer *\n", old)
	s.reverse = newReverse(240, 1000, s.Names.log)
	step := func(content string, laptopIs, printerIs, otherIs string) {
		t.Helper()
		now = now.Add(5 * time.Second)
		if content != "" {
			s.write("names", content, now)
		}
		s.look(now)
		s.want(laptop, Info{laptopIs, ""})
		s.want(printer, Info{printerIs, "02:00:00:00:00:02"})
		s.want(netip.MustParseAddr("192.168.1.135"), Info{otherIs, ""})
	}
	step("192.168.1.133 mine\n02:00:00:00:00:02 by MAC\n", "mine", "by MAC", "")
	step("192.168.1.0/24 lan\n", "lan", "lan", "lan")
	step("192.168.1.0/24 lan\n02:00:00:00:00:02 by MAC\n192.168.1.135 third\n", "lan", "by MAC", "third")
	step("nonsense\n", "lan", "by MAC", "third")
	s.wantLogged(1, "names:1: ")
	if err := s.Reload(); err == nil || !strings.Contains(err.Error(), "names:1: ") {
		t.Errorf("the error of a reload is %v", err)
	}
	if err := os.Remove(s.path("names")); err != nil {
		t.Fatal(err)
	}
	step("", "lan", "by MAC", "third")
	s.wantLogged(2, "the names file cannot be read")
	step("192.168.1.128/25 upper\n", "upper", "upper", "upper")
	s.wantLogged(1, "the names file can be read now")
	step("# none\n", "hosts", "printer", "")
}

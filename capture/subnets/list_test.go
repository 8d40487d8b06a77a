package subnets

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestReadList(t *testing.T) {
	folder := t.TempDir()
	file := func(name, text string) string {
		name = filepath.Join(folder, name)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	good := file("good", "\ufeff# of the office\n\nlan=10.1.0.0/16, 10.2.0.0/16 # two in a line\n\t2001:db8::/32,\r\nwifi=auto\n192.0.2.1")
	empty := file("empty", "# none\n\n")
	for _, c := range []struct {
		text, want string
		auto       []string
	}{
		{"", "", nil},
		{"auto", "", []string{""}},
		{"lan=auto,10.8.0.0/24", "10.8.0.0/24", []string{"lan"}},
		{" vpn=10.8.0.1/24 , auto,dmz = auto", "vpn=10.8.0.0/24", []string{"", "dmz"}},
		{"@" + good, "lan=10.1.0.0/16,10.2.0.0/16,2001:db8::/32,192.0.2.1/32", []string{"wifi"}},
		{"10.9.0.0/16,@" + good + ",@" + empty, "10.9.0.0/16,lan=10.1.0.0/16,10.2.0.0/16,2001:db8::/32,192.0.2.1/32", []string{"wifi"}},
		{"lan=10.1.0.0/16,@" + good, "lan=10.1.0.0/16,10.2.0.0/16,2001:db8::/32,192.0.2.1/32", []string{"wifi"}},
		{"@" + empty, "", nil},
	} {
		l, err := ParseList(c.text)
		if err != nil {
			t.Errorf("%q: %v", c.text, err)
			continue
		}
		if l.String() != strings.TrimSpace(c.text) {
			t.Errorf("%q is written %q", c.text, l)
		}
		s, auto, err := l.Read()
		if err != nil || s.String() != c.want || !slices.Equal(auto, c.auto) {
			t.Errorf("%q is %q with %q (%v), want %q with %q", c.text, s, auto, err, c.want, c.auto)
		}
	}
	bad := file("bad", "10.1.0.0/16\n# a comment\n10.2.0.0/16,10.3.0.0/33 # wrong\n")
	twice := file("twice", "one=10.1.0.0/16\ntwo=10.1.0.0/16\n")
	nested := file("nested", "\n@"+good)
	for text, want := range map[string]string{
		"@" + bad:                   bad + `:3: "10.3.0.0/33" is not a subnet`,
		"@" + twice:                 twice + ":2: 10.1.0.0/16 is listed twice",
		"@" + nested:                nested + ":2: a file of subnets cannot name another one",
		"@" + folder + "/absent":    "absent: no such file",
		"@" + folder:                "is not a regular file",
		"x=10.1.0.0/16,@" + good:    good + ":3: 10.1.0.0/16 is listed twice",
		"a=10.1.0.0/16,10.1.0.0/16": "10.1.0.0/16 is listed twice",
	} {
		l, err := ParseList(text)
		if err == nil {
			_, _, err = l.Read()
		}
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v, want an error with %q", text, err, want)
		}
	}
	for text, want := range map[string]string{"@": "needs a file", "other=auto": "reserved", "=auto": "printable name", "Auto": "is not a subnet"} {
		if _, err := ParseList(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want an error with %q", text, err, want)
		}
	}
}

func TestWith(t *testing.T) {
	a, b := netip.MustParsePrefix("10.1.2.3/24"), netip.MustParsePrefix("2001:db8::/64")
	for _, c := range []struct{ list, name, want string }{
		{"", "", "10.1.2.0/24,2001:db8::/64"},
		{"", "lan", "lan=10.1.2.0/24,lan=2001:db8::/64"},
		{"office=10.1.2.0/24", "lan", "office=10.1.2.0/24,lan=2001:db8::/64"},
		{"10.1.0.0/16", "lan", "10.1.0.0/16,lan=10.1.2.0/24,lan=2001:db8::/64"},
	} {
		before := parse(t, c.list)
		if got := before.With(c.name, a, b); got.String() != c.want {
			t.Errorf("%q with %q: %q, want %q", c.list, c.name, got, c.want)
		}
		if before.String() != c.list {
			t.Errorf("%q became %q", c.list, before)
		}
	}
}

package subnets

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func parse(t testing.TB, list string) Set {
	t.Helper()
	s, err := Parse(list)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestParseSubnets(t *testing.T) {
	hundreds := make([]string, 300)
	for i := range hundreds {
		hundreds[i] = fmt.Sprintf("10.%d.%d.0/24", i/256, i%256)
	}
	for _, c := range []struct{ name, list, want string }{
		{"empty", "", ""},
		{"only space", " \t", ""},
		{"one", "10.0.0.0/8", "10.0.0.0/8"},
		{"host bits are masked", "192.168.0.1/24", "192.168.0.0/24"},
		{"host bits of IPv6 are masked", "2001:db8::dead:beef/32", "2001:db8::/32"},
		{"single addresses", "192.0.2.1,2001:db8::1", "192.0.2.1/32,2001:db8::1/128"},
		{"space around", " 10.0.0.0/8 ,\tfd00::/8\n", "10.0.0.0/8,fd00::/8"},
		{"everything", "0.0.0.0/0,::/0", "0.0.0.0/0,::/0"},
		{"everything, host bits", "1.2.3.4/0,1::/0", "0.0.0.0/0,::/0"},
		{"the order is kept", "10.0.0.0/8,1.0.0.0/8,9.0.0.0/8", "10.0.0.0/8,1.0.0.0/8,9.0.0.0/8"},
		{"repeated", "10.0.0.0/8,10.0.0.0/8", "10.0.0.0/8"},
		{"mapped IPv4 is IPv6", "::ffff:10.1.2.3/104,::ffff:192.0.2.1", "::ffff:10.0.0.0/104,::ffff:192.0.2.1/128"},
		{"hundreds", strings.Join(hundreds, ","), strings.Join(hundreds, ",")},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := parse(t, c.list)
			if got := s.String(); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if s.Empty() != (c.want == "") {
				t.Errorf("Empty is %v", s.Empty())
			}
		})
	}
}

func TestParseSubnetsQuotesWhatIsWrong(t *testing.T) {
	for _, c := range []struct{ list, wrong string }{
		{"nonsense", "nonsense"},
		{"10.0.0.0/8,,", ""},
		{",", ""},
		{"10.0.0.0/8, ,fd00::/8", ""},
		{"10.0.0.0/8;11.0.0.0/8", "10.0.0.0/8;11.0.0.0/8"},
		{"10.0.0.0/8 11.0.0.0/8", "10.0.0.0/8 11.0.0.0/8"},
		{"10.0.0.0/8, 10.0.0.0/33", "10.0.0.0/33"},
		{"fd00::/129", "fd00::/129"},
		{"10.0.0/8", "10.0.0/8"},
		{"10.0.0.0/-1", "10.0.0.0/-1"},
		{"10.0.0.0/08", "10.0.0.0/08"},
		{"10.0.0.0/", "10.0.0.0/"},
		{"10.0.0.0/ 8", "10.0.0.0/ 8"},
		{"/8", "/8"},
		{"010.0.0.0/8", "010.0.0.0/8"},
		{"10.0.0.0/255.0.0.0", "10.0.0.0/255.0.0.0"},
		{"fe80::1%eth0", "fe80::1%eth0"},
		{"fe80::%eth0/64", "fe80::%eth0/64"},
		{"eth0", "eth0"},
	} {
		s, err := Parse(c.list)
		if err == nil {
			t.Errorf("%q: no error but %s", c.list, s)
		} else if !strings.HasPrefix(err.Error(), fmt.Sprintf("%q is not a subnet", c.wrong)) {
			t.Errorf("%q: the error does not quote %q: %v", c.list, c.wrong, err)
		}
	}
}

func TestSubnetsContains(t *testing.T) {
	for _, c := range []struct{ list, in, out string }{
		{"", "", "0.0.0.0 :: 10.0.0.1 ::1"},
		{"192.168.0.1/24", "192.168.0.0 192.168.0.1 192.168.0.255", "192.167.255.255 192.168.1.0 ::ffff:192.168.0.1"},
		{"192.0.2.7", "192.0.2.7", "192.0.2.6 192.0.2.8"},
		{"0.0.0.0", "0.0.0.0", "0.0.0.1 ::"},
		{"255.255.255.255", "255.255.255.255", "255.255.255.254 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
		{"2001:db8::7", "2001:db8::7", "2001:db8::6 2001:db8::8"},
		{"0.0.0.0/0", "0.0.0.0 127.0.0.1 255.255.255.255", ":: ::1 ::ffff:10.0.0.1 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
		{"::/0", ":: ::1 ::ffff:10.0.0.1 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "0.0.0.0 10.0.0.1 255.255.255.255"},
		{"::ffff:10.0.0.0/104", "::ffff:10.0.0.0 ::ffff:10.255.255.255", "10.0.0.0 10.255.255.255 ::ffff:11.0.0.0 ::ffff:9.255.255.255"},
		{"::ffff:0:0/96", "::ffff:0.0.0.0 ::ffff:255.255.255.255", "0.0.0.0 10.0.0.1 ::fffe:255.255.255.255 ::1:0:0:0"},
		{"::/80", "::ffff:10.0.0.1 ::1", "10.0.0.1 ::1:0:0:0"},
		{"10.0.0.0/24,10.0.1.0/24", "10.0.0.0 10.0.0.255 10.0.1.0 10.0.1.255", "9.255.255.255 10.0.2.0"}, // adjacent
		{"10.0.1.0/24,10.0.0.0/24,10.0.3.0/24", "10.0.0.255 10.0.1.0 10.0.3.0", "10.0.2.0 10.0.2.255"},   // with a hole
		{"10.0.0.0/8,10.1.0.0/16,10.1.2.0/24", "10.0.0.0 10.1.2.3 10.255.255.255", "11.0.0.0"},           // nested
		{"10.1.2.0/24,10.1.0.0/16,10.0.0.0/8", "10.0.0.0 10.1.2.3 10.255.255.255", "11.0.0.0"},
		{"0.0.0.0/1,128.0.0.0/1", "0.0.0.0 127.255.255.255 128.0.0.0 255.255.255.255", ""},
		{"fd00::/64,fd00:0:0:1::/64", "fd00:: fd00::ffff:ffff:ffff:ffff fd00:0:0:1::", "fd00:0:0:2:: fcff:ffff::"}, // a carry between the halves
		{"::/1,8000::/1,::/128", ":: 7fff:: 8000:: ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", ""},
		{"10.0.0.0/8,fd00::/8", "10.0.0.1 fd00::1", "fc00::1 11.0.0.1 a00:1::"},
	} {
		s := parse(t, c.list)
		for _, want := range []bool{true, false} {
			addrs := c.out
			if want {
				addrs = c.in
			}
			for addr := range strings.FieldsSeq(addrs) {
				if got := s.Contains(netip.MustParseAddr(addr)); got != want {
					t.Errorf("{%s} contains %s: got %v", c.list, addr, got)
				}
			}
		}
		if s.Contains(netip.Addr{}) {
			t.Errorf("{%s} contains the invalid address", c.list)
		}
	}
}

func TestSubnetsOfMasksACopyOfItsPrefixes(t *testing.T) {
	prefixes := []netip.Prefix{netip.MustParsePrefix("192.168.0.1/24"), netip.MustParsePrefix("fd00::1/8")}
	given := slices.Clone(prefixes)
	s := Of(prefixes...)
	if got := s.String(); got != "192.168.0.0/24,fd00::/8" {
		t.Error("got", got)
	}
	if !slices.Equal(prefixes, given) {
		t.Error("changed its arguments to", prefixes)
	}
	prefixes[0] = netip.MustParsePrefix("10.0.0.0/8")
	if got := s.Prefixes()[0].String(); got != "192.168.0.0/24" {
		t.Error("a later change of the arguments changed the set to", got)
	}
}

// disagreement compares a set with the standard library on the boundaries of its prefixes and just outside them.
func disagreement(s *Set, prefixes []netip.Prefix, more ...netip.Addr) string {
	addrs := append(more, netip.AddrFrom4([4]byte{}), netip.IPv6Unspecified())
	for _, p := range prefixes {
		first := p.Masked().Addr()
		last := first.AsSlice()
		for bit := p.Bits(); bit < first.BitLen(); bit++ {
			last[bit/8] |= 0x80 >> (bit % 8)
		}
		end, _ := netip.AddrFromSlice(last)
		addrs = append(addrs, p.Addr(), first, first.Prev(), first.Next(), end, end.Prev(), end.Next())
	}
	for _, addr := range addrs {
		if !addr.IsValid() {
			continue // beyond the first or last of all addresses
		}
		for _, addr := range []netip.Addr{addr, addr.Unmap(), netip.AddrFrom16(addr.As16())} {
			want := slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
			if s.Contains(addr) != want {
				return fmt.Sprintf("{%s} contains %s: should be %v", s, addr, want)
			}
		}
	}
	return ""
}

func TestSubnetsContainWhatTheirPrefixesContain(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	// Few distinct bytes, so that prefixes nest, overlap and touch.
	addr := func() netip.Addr {
		var b [16]byte
		for i := range b {
			b[i] = []byte{0, 0, 1, 2, 0x7f, 0x80, 0xfe, 0xff}[random.IntN(8)]
		}
		switch random.IntN(5) {
		case 0, 1:
			return netip.AddrFrom4([4]byte(b[:4]))
		case 2: // an IPv4-mapped one
			copy(b[:], []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff})
		}
		return netip.AddrFrom16(b)
	}
	for range 2000 {
		prefixes, addrs := make([]netip.Prefix, random.IntN(12)), make([]netip.Addr, 50)
		for i := range prefixes {
			a := addr()
			prefixes[i] = netip.PrefixFrom(a, random.IntN(a.BitLen()+1))
		}
		for i := range addrs {
			addrs[i] = addr()
		}
		s := Of(prefixes...)
		if why := disagreement(&s, prefixes, addrs...); why != "" {
			t.Fatal(why)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"", " ", "192.168.0.1/24", "10.0.0.0/8,,", "::/0,0.0.0.0/0", "fe80::1%eth0", "fe80::/10", "::ffff:10.0.0.0/104",
		"::ffff:10.0.0.1", "255.255.255.250/32", " 10.0.0.0/8 ,\tfd00::/8", "10.0.0.0/24,10.0.1.0/24", "1.2.3.4/0", "10.0.0.0/33",
		"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fd00::/64,fd00:0:0:1::/64", "lan=10.0.0.1/8,vpn = 10.8.0.0/16, fd00::/8", "a=b=10.0.0.0/8", "=10.0.0.0/8", "a=10.0.0.0/8,b=10.1.1.1/8",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, list string) {
		s, err := Parse(list)
		if err != nil {
			if !s.Empty() {
				t.Errorf("%q: an error and %s", list, s)
			}
			return
		}
		if why := disagreement(&s, s.Prefixes()); why != "" {
			t.Error(why)
		}
		for _, p := range s.Prefixes() {
			if p != p.Masked() {
				t.Errorf("%q: %s is not masked", list, p)
			}
		}
		again, err := Parse(s.String())
		for i := range again.Prefixes() {
			if again.Name(i) != s.Name(i) {
				t.Errorf("%q: %s has the name %q, then %q", list, s.Prefixes()[i], s.Name(i), again.Name(i))
			}
		}
		if err != nil || !slices.Equal(again.Prefixes(), s.Prefixes()) {
			t.Errorf("%q is %s, which reads back as %s, %v", list, s, again, err)
		}
	})
}

func BenchmarkSubnetsContains(b *testing.B) {
	for _, n := range []int{1, 300} {
		v4, v6 := make([]netip.Prefix, n), make([]netip.Prefix, n)
		in4, in6 := make([]netip.Addr, 1024), make([]netip.Addr, 1024)
		for i := range n { // with holes between them
			v4[i] = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i / 128), byte(i % 128 * 2)}), 24)
			v6[i] = netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 0x0d, 0xb8, byte(i / 128), byte(i % 128 * 2)}), 48)
		}
		random := rand.New(rand.NewPCG(1, 2))
		for i := range in4 {
			in4[i], in6[i] = v4[random.IntN(n)].Addr().Next(), v6[random.IntN(n)].Addr().Next()
		}
		for _, addrs := range [][]netip.Addr{in4, in6} {
			b.Run(fmt.Sprintf("%d/ipv%d", n, 4+2*(addrs[0].BitLen()/128)), func(b *testing.B) {
				s := Of(append(v4, v6...)...)
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					if !s.Contains(addrs[i%len(addrs)]) {
						b.Fatal("not in the set")
					}
				}
			})
		}
	}
}

func TestNamesOfSubnets(t *testing.T) {
	for list, want := range map[string]string{
		"lan=192.168.1.1/24, wlan = 10.0.0.0/8 ,fd00::/8": "lan=192.168.1.0/24,wlan=10.0.0.0/8,fd00::/8",
		"a=10.0.0.1,a=10.0.0.2,a=10.0.0.1":                "a=10.0.0.1/32,a=10.0.0.2/32",
		"Büro 1=10.0.0.1":                                 "Büro 1=10.0.0.1/32",
	} {
		if s := parse(t, list); s.String() != want || !s.Named() {
			t.Errorf("%q is %q, named: %v", list, s, s.Named())
		}
	}
	if parse(t, "10.0.0.0/8").Named() {
		t.Error("a name without a name")
	}
	for list, want := range map[string]string{
		"=10.0.0.0/8":                     `"=10.0.0.0/8" needs a printable name`,
		"a\x00b=10.0.0.0/8":               `needs a printable name before the =`,
		"a\xff=10.0.0.0/8":                `needs a printable name before the =`,
		"a=b=10.0.0.0/8":                  `"b=10.0.0.0/8" is not a subnet`,
		"a=":                              `"" is not a subnet`,
		"a=10.0.0.0/8,b=10.0.0.0/8":       "10.0.0.0/8 is listed twice",
		"a=10.0.0.0/8,10.1.2.3/8":         "10.0.0.0/8 is listed twice",
		"external=10.0.0.0/8":             `"external" cannot be the name`,
		"a=10.0.0.1,multicast=10.0.0.2":   `"multicast" cannot be the name`,
		" other =10.0.0.0/8":              `"other" cannot be the name`,
		"a=10.0.0.0/8,b=11.0.0.0/8,a=x/8": `"x/8" is not a subnet`,
	} {
		if _, err := Parse(list); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: the error is %v, want %s", list, err, want)
		}
	}
}

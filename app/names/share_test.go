package names

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestNamesOfAMAC has addresses of one device, of which some have names.
func TestNamesOfAMAC(t *testing.T) {
	const (
		ours  = "02:00:00:00:00:02"
		other = "02:00:00:00:00:03"
		lease = "0 02:00:00:00:00:02 192.168.1.133 laptop *\n"
	)
	six, seven, local := netip.MustParseAddr("fd00:1::2"), netip.MustParseAddr("fd00:1::7"), netip.MustParseAddr("fe80::1")
	both := []neighbour{{six, ours, 0}, {seven, ours, 0}}
	many := []neighbour{{laptop, ours, 0}}
	for i := range maxOfMAC {
		many = append(many, neighbour{host(i), ours, 0})
	}
	for _, c := range []struct {
		name          string
		neighbours    []neighbour
		hosts, leases string
		given         string
		dns, mdns     map[netip.Addr]string
		want          map[netip.Addr]Info
	}{
		{"of a lease", both, "", lease, "", nil, nil, map[netip.Addr]Info{laptop: {"laptop", ours}, six: {"laptop", ours}, seven: {"laptop", ours}}},
		{"of hosts", append(both, neighbour{laptop, ours, 0}), "192.168.1.133 desk\n", "", "", nil, nil, map[netip.Addr]Info{six: {"desk", ours}}},
		{"another MAC", []neighbour{{six, other, 0}}, "", lease, "", nil, nil, map[netip.Addr]Info{six: {"", other}}},
		{"a name of its own", both, "fd00:1::2 own\n192.168.1.133 laptop\n", lease, "", nil, nil,
			map[netip.Addr]Info{six: {"own", ours}, laptop: {"laptop", ours}, seven: {"", ours}}},
		{"several that agree", both, "fd00:1::2 laptop\n", lease, "", nil, nil, map[netip.Addr]Info{seven: {"laptop", ours}}},
		{"with a domain and without, as on OpenWrt", both, "fd00:1::2 laptop.lan laptop\n", lease, "", nil, nil,
			map[netip.Addr]Info{six: {"laptop.lan", ours}, laptop: {"laptop", ours}, seven: {"laptop", ours}}},
		{"a router's", append(both, neighbour{printer, ours, 0}), "", lease + "0 02:00:00:00:00:02 192.168.1.135 third *\n", "", nil, nil,
			map[netip.Addr]Info{six: {"", ours}, printer: {"", ours}, laptop: {"laptop", ours}}},
		{"a router's that answers for others", many, "192.168.1.133 router\n", "", "", nil, nil, map[netip.Addr]Info{laptop: {"router", ours}, host(0): {"", ours}}},
		{"many", many[1:], "10.0.0.0 server\n", "", "", nil, nil, map[netip.Addr]Info{host(1): {"server", ours}}},
		{"a repeater's, which gives its MAC to those behind it", append(both, neighbour{laptop, ours, 0}), "",
			"0 02:00:00:00:00:03 192.168.1.133 laptop *\n", "", nil, nil, map[netip.Addr]Info{laptop: {"laptop", ours}, six: {"", ours}, seven: {"", ours}}},
		{"of a lease of DHCPv6, with the MAC of another interface", both, "", "0 02:00:00:00:00:03 fd00:1::2 laptop *\n", "", nil, nil,
			map[netip.Addr]Info{six: {"laptop", ours}, seven: {"laptop", ours}}},
		{"given to a repeater", append(both, neighbour{laptop, ours, 0}, neighbour{printer, ours, 0}), "",
			"0 02:00:00:00:00:03 192.168.1.133 laptop *\n0 02:00:00:00:00:04 192.168.1.134 * *\n", "02:00:00:00:00:02 repeater\n02:00:00:00:00:04 printer\n", nil, nil,
			map[netip.Addr]Info{laptop: {"laptop", ours}, printer: {"printer", ours}, six: {"repeater", ours}}},
		{"given to a repeater, behind which a host has no name", []neighbour{{laptop, ours, 0}}, "", "0 02:00:00:00:00:03 192.168.1.133 * *\n",
			"02:00:00:00:00:02 repeater\n", nil, nil, map[netip.Addr]Info{laptop: {"", ours}}},
		{"a link-local address of one host", []neighbour{{local, ours, 0}}, "", lease, "", nil, nil, map[netip.Addr]Info{local: {"laptop", ours}}},
		{"a link-local address of two hosts on two links", []neighbour{{local, ours, 1}, {local, other, 2}}, "", lease, "", nil, nil,
			map[netip.Addr]Info{local: {"", ours}, laptop: {"laptop", ours}}},
		{"of DNS", both, "", "", "", map[netip.Addr]string{six: "six.lan"}, nil, map[netip.Addr]Info{six: {"six.lan", ours}, seven: {"six.lan", ours}}},
		{"DNS does not agree", append(both, neighbour{printer, ours, 0}), "", "", "", map[netip.Addr]string{six: "six.lan", seven: "seven.lan"}, nil,
			map[netip.Addr]Info{six: {"six.lan", ours}, printer: {"", ours}}},
		{"a file is better than DNS", both, "", lease, "", map[netip.Addr]string{six: "six.lan"}, nil,
			map[netip.Addr]Info{six: {"six.lan", ours}, seven: {"laptop", ours}}},
		{"DNS is better than multicast DNS", both, "", "", "", map[netip.Addr]string{six: "six.lan"}, map[netip.Addr]string{laptop: "laptop.local"},
			map[netip.Addr]Info{seven: {"six.lan", ours}}},
		{"of multicast DNS", both, "", "", "", nil, map[netip.Addr]string{six: "laptop.local"}, map[netip.Addr]Info{seven: {"laptop.local", ours}}},
		{"given to an address", both, "", lease, "192.168.1.133 mine\n", nil, nil, map[netip.Addr]Info{six: {"mine", ours}, laptop: {"mine", ours}}},
		{"given to a prefix", both, "", lease, "192.168.1.0/24 lan\n", nil, nil, map[netip.Addr]Info{six: {"laptop", ours}, laptop: {"lan", ours}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			now := time.Now()
			s := newSources(t, "leases")
			s.neighbours = c.neighbours
			s.write("hosts", c.hosts, now)
			s.write("leases", c.leases, now)
			s.Names.given = &givenFile{file: file{path: s.path("names")}}
			s.write("names", c.given, now)
			s.reverse = newReverse(240, 1000, s.Names.log)
			s.mdns = newMDNS(func() ([]link, error) { return nil, nil }, 1000, s.Names.log)
			for addr, name := range c.dns {
				s.reverse.name(addr)
				s.reverse.store(addr, []string{name}, nil)
			}
			for addr, name := range c.mdns {
				s.mdns.answers.name(addr)
				s.mdns.answers.store(addr, []string{name}, nil)
			}
			s.look(now)
			for addr, want := range c.want {
				s.want(addr, want)
			}
		})
	}
}

// TestFilesThatDoNotAgree has two files with leases of different hosts for an address, and no neighbour.
func TestFilesThatDoNotAgree(t *testing.T) {
	const better = "02:00:00:00:00:02"
	now := time.Now()
	s := newSources(t, "first", "second")
	s.Names.given = &givenFile{file: file{path: s.path("names")}}
	s.write("first", "0 02:00:00:00:00:02 192.168.1.133 * *\n0 02:00:00:00:00:02 192.168.1.134 * *\n", now)
	s.write("second", "0 02:00:00:00:00:03 192.168.1.133 other *\n", now)
	s.write("names", "", now)
	s.look(now)
	s.want(printer, Info{"", better})
	s.write("names", better+" mine\n02:00:00:00:00:03 not-mine\n", now)
	s.look(now.Add(5 * time.Second))
	s.want(laptop, Info{"mine", better})
	s.want(printer, Info{"mine", better})
}

func TestNamesThatAgree(t *testing.T) {
	for _, c := range []struct{ names, want string }{
		{"laptop", "laptop"}, {"laptop laptop", "laptop"}, {"laptop Laptop", "Laptop"}, {"laptop.lan laptop", "laptop"},
		{"laptop.lan laptop.home", ""}, {"laptop.lan laptop laptop.home", "laptop"}, {"laptop laptop2", ""}, {"laptop2.lan laptop", ""},
		{"laptop printer", ""}, {"lan laptop.lan", ""},
	} {
		names := strings.Fields(c.names)
		for range names { // in any order
			if got := common(names); got != c.want {
				t.Errorf("%v: %q, want %q", names, got, c.want)
			}
			names = append(names[1:], names[0])
		}
	}
}

// TestNameOfAMACFollowsItsSource has a name of DNS that comes after everything else, and a lease that ends.
func TestNameOfAMACFollowsItsSource(t *testing.T) {
	now := time.Unix(1700000000, 0)
	six := netip.MustParseAddr("fd00:1::2")
	s := newSources(t, "leases")
	s.reverse = newReverse(240, 1000, s.Names.log)
	s.neighbours = []neighbour{{six, "02:00:00:00:00:02", 0}, {laptop, "02:00:00:00:00:02", 0}}
	s.write("leases", "1700000060 02:00:00:00:00:02 192.168.1.133 laptop *\n", now)
	s.look(now)
	s.want(six, Info{"laptop", "02:00:00:00:00:02"})
	s.look(now.Add(time.Minute))
	s.want(six, Info{"", "02:00:00:00:00:02"})
	s.reverse.name(laptop)
	s.reverse.store(laptop, []string{"laptop.lan."}, nil)
	s.look(now.Add(65 * time.Second))
	s.want(six, Info{"laptop.lan", "02:00:00:00:00:02"})
}

// TestAddressOfAnotherHostIsAskedAboutAgain has an address that goes to another host while the answer of the first one holds.
func TestAddressOfAnotherHostIsAskedAboutAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSources(t)
		dns, multicast := &server{answer: nobody}, &server{answer: named}
		s.reverse = newReverse(240, 1000, s.Names.log)
		s.reverse.lookup = dns.lookup
		lan := link{netip.MustParsePrefix("192.168.1.0/24"), net.Interface{Index: 7}}
		s.mdns = newMDNS(func() ([]link, error) { return []link{lan}, nil }, 1000, s.Names.log)
		s.mdns.answers.lookup = multicast.lookup
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { s.Run(ctx); close(ended) }()
		read := func() {
			for range 6 {
				s.Of(laptop)
				time.Sleep(refreshInterval)
			}
		}
		want := func(mac, name string, each int) {
			t.Helper()
			s.mu.Lock() // which a refresh holds
			s.neighbours = []neighbour{{laptop, mac, 0}}
			s.mu.Unlock()
			read()
			s.want(laptop, Info{name, mac})
			for _, server := range []*server{dns, multicast} {
				if asked, _ := server.take(); len(asked) != each {
					t.Errorf("asked %v, want %d questions", asked, each)
				}
			}
		}
		want("02:00:00:00:00:02", "host-192-168-1-133", 1)
		want("02:00:00:00:00:02", "host-192-168-1-133", 0)
		multicast.answers(nobody)
		want("02:00:00:00:00:03", "", 1)
		want("02:00:00:00:00:03", "", 0)
		cancel()
		<-ended
	})
}

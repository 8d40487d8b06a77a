package names

import (
	"context"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

func dnsName(s string) dnsmessage.Name { return dnsmessage.MustNewName(s) }

// reply makes a reply to a question about laptop, as a responder sends it to a port other than 5353, and changes it.
func reply(change func(*dnsmessage.Message)) []byte {
	question, _ := ptrQuestion(laptop)
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 7, Response: true, Authoritative: true},
		Questions: []dnsmessage.Question{question},
		Answers: []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: question.Name, Type: dnsmessage.TypePTR, Class: dnsmessage.ClassINET, TTL: 10},
			Body:   &dnsmessage.PTRResource{PTR: dnsName("laptop.local.")},
		}},
	}
	change(&m)
	packet, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return packet
}

var replies = []struct {
	name   string
	change func(*dnsmessage.Message)
	want   string
}{
	{"of its host", func(*dnsmessage.Message) {}, "laptop.local"},
	{"with the cache-flush bit", func(m *dnsmessage.Message) { m.Answers[0].Header.Class |= 1 << 15 }, "laptop.local"},
	{"in other letters", func(m *dnsmessage.Message) {
		m.Questions[0].Name, m.Answers[0].Header.Name = dnsName("133.1.168.192.IN-ADDR.arpa."), dnsName("133.1.168.192.in-addr.ARPA.")
	}, "laptop.local"},
	{"with more than that", func(m *dnsmessage.Message) {
		m.Answers = append([]dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: dnsName("other.local."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET},
			Body:   &dnsmessage.AResource{},
		}}, m.Answers...)
	}, "laptop.local"},
	{"with a name that cannot be shown", func(m *dnsmessage.Message) {
		m.Answers = append([]dnsmessage.Resource{{Header: m.Answers[0].Header, Body: &dnsmessage.PTRResource{PTR: dnsName("\x1b[31m.local.")}}}, m.Answers...)
	}, "laptop.local"},
	{"with no name that can be shown", func(m *dnsmessage.Message) { m.Answers[0].Body = &dnsmessage.PTRResource{PTR: dnsName("\x1b.local.")} }, ""},
	{"another ID", func(m *dnsmessage.Message) { m.ID = 8 }, ""},
	{"a question", func(m *dnsmessage.Message) { m.Response = false }, ""},
	{"an error", func(m *dnsmessage.Message) { m.RCode = dnsmessage.RCodeRefused }, ""},
	{"to no question", func(m *dnsmessage.Message) { m.Questions = nil }, ""},
	{"to two questions", func(m *dnsmessage.Message) { m.Questions = append(m.Questions, m.Questions[0]) }, ""},
	{"to another question", func(m *dnsmessage.Message) { m.Questions[0].Name = dnsName("134.1.168.192.in-addr.arpa.") }, ""},
	{"about another address", func(m *dnsmessage.Message) { m.Answers[0].Header.Name = dnsName("134.1.168.192.in-addr.arpa.") }, ""},
	{"without an answer", func(m *dnsmessage.Message) { m.Answers = nil }, ""},
	{"with the name elsewhere", func(m *dnsmessage.Message) { m.Additionals, m.Answers = m.Answers, nil }, ""},
}

func TestParseReply(t *testing.T) {
	question, _ := ptrQuestion(laptop)
	for _, c := range replies {
		t.Run(c.name, func(t *testing.T) {
			packet := reply(c.change)
			if got, err := parseReply(packet, 7, question); got != c.want || (err == nil) != (c.want != "") {
				t.Errorf("%q, %v, want %q", got, err, c.want)
			}
			for i := range packet { // cut off
				if got, err := parseReply(packet[:i], 7, question); err == nil && got != c.want {
					t.Errorf("%d bytes: %q, want %q", i, got, c.want)
				}
			}
		})
	}
}

func FuzzParseReply(f *testing.F) {
	for _, c := range replies {
		f.Add(reply(c.change))
	}
	question, err := ptrQuestion(laptop)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, packet []byte) {
		if name, err := parseReply(packet, 7, question); (name == "") != (err != nil) || name != hostname(name) {
			t.Errorf("%q, %v", name, err)
		}
	})
}

func TestPTRQuestions(t *testing.T) {
	for addr, want := range map[string]string{
		"192.168.1.133": "133.1.168.192.in-addr.arpa.",
		"fd00:1::ab":    "b.a.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.0.0.0.d.f.ip6.arpa.",
	} {
		if q, err := ptrQuestion(netip.MustParseAddr(addr)); err != nil || q.Name.String() != want {
			t.Errorf("%s: %v, %v, want %s", addr, q.Name, err, want)
		}
	}
}

// TestWhoIsAskedByMulticast has addresses on a link and elsewhere, with names and without.
func TestWhoIsAskedByMulticast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSources(t, "leases")
		lan := link{netip.MustParsePrefix("192.168.1.0/24"), net.Interface{Index: 7}}
		s.mdns = newMDNS(func() ([]link, error) { return []link{lan}, nil }, 1000, s.Names.log)
		s.reverse = newReverse(6000, 1000, s.Names.log)
		s.reverse.lookup = func(ctx context.Context, addr string) ([]string, error) {
			if addr == "192.168.1.3" {
				return []string{"of-dns."}, nil
			}
			return nobody(ctx, addr)
		}
		var mu sync.Mutex
		asked := map[string]int{}
		s.mdns.answers.lookup = func(ctx context.Context, addr string) ([]string, error) {
			mu.Lock()
			defer mu.Unlock()
			asked[addr]++
			if addr == "192.168.1.5" {
				return []string{"five.local."}, nil
			}
			return nobody(ctx, addr)
		}
		s.write("leases", "0 02:00:00:00:00:02 192.168.1.2 of-lease *\n", time.Now())
		s.neighbours = []neighbour{{netip.MustParseAddr("192.168.1.4"), "02:00:00:00:00:02", 0}}
		s.look(time.Now())
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { s.Run(ctx); close(ended) }()
		read := func() {
			for _, addr := range []string{"192.168.1.2", "192.168.1.3", "192.168.1.4", "192.168.1.5", "192.168.1.6", "10.0.0.1", "169.254.1.1", "fe80::1", "224.0.0.1"} {
				s.Of(netip.MustParseAddr(addr))
			}
		}
		for range 10 {
			read()
			time.Sleep(5 * time.Minute)
		}
		want := func(n int) {
			t.Helper()
			mu.Lock()
			defer mu.Unlock()
			if want := map[string]int{"192.168.1.5": n, "192.168.1.6": n}; !maps.Equal(asked, want) {
				t.Errorf("asked %v, want %v", asked, want)
			}
		}
		want(1) // a name from its MAC is one, and so is one of DNS
		s.want(netip.MustParseAddr("192.168.1.5"), Info{Hostname: "five.local"})
		s.want(netip.MustParseAddr("192.168.1.4"), Info{"of-lease", "02:00:00:00:00:02"})
		for range 4 {
			time.Sleep(5 * time.Minute)
			read()
		}
		time.Sleep(time.Minute)
		want(2)
		cancel()
		<-ended
	})
}

// TestMulticastNamesAreAskedForAgain has an address with a MAC. Its name is that of its MAC, too, which must not keep it for ever.
func TestMulticastNamesAreAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const mac = "02:00:00:00:00:02"
		s := newSources(t)
		lan := link{netip.MustParsePrefix("192.168.1.0/24"), net.Interface{Index: 7}}
		s.mdns = newMDNS(func() ([]link, error) { return []link{lan}, nil }, 1000, s.Names.log)
		server := &server{answer: named}
		s.mdns.answers.lookup = server.lookup
		s.neighbours = []neighbour{{laptop, mac, 0}}
		s.look(time.Now())
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { s.Run(ctx); close(ended) }()
		wait := func(d time.Duration) {
			for range d / time.Minute {
				s.Of(laptop)
				time.Sleep(time.Minute)
			}
		}
		wait(30 * time.Minute)
		s.want(laptop, Info{"host-192-168-1-133", mac})
		server.answers(nobody)
		wait(mdnsKeep)
		s.want(laptop, Info{"", mac})
		if asked, _ := server.take(); len(asked) != 2 {
			t.Errorf("asked %v, want two questions", asked)
		}
		cancel()
		<-ended
	})
}

func TestLinksThatHaveOthers(t *testing.T) {
	lan := net.Interface{Index: 7, Flags: net.FlagUp | net.FlagMulticast}
	for _, c := range []struct {
		name, address string
		flags         net.Flags
		want          string
	}{
		{"IPv4", "192.168.1.7/24", lan.Flags, "192.168.1.0/24"},
		{"IPv6", "fd00:1::7/64", lan.Flags, "fd00:1::/64"},
		{"link-local", "fe80::7/64", lan.Flags, ""},
		{"alone", "192.168.1.7/32", lan.Flags, ""},
		{"everything", "192.168.1.7/0", lan.Flags, ""},
		{"down", "192.168.1.7/24", net.FlagMulticast, ""},
		{"without multicast", "192.168.1.7/24", net.FlagUp, "not 192.168.1.0/24"},
		{"loopback", "127.0.0.1/8", lan.Flags | net.FlagLoopback, "not 127.0.0.0/8"},
		{"a tunnel", "10.8.0.1/24", lan.Flags | net.FlagPointToPoint, "not 10.8.0.0/24"},
	} {
		ip, subnet, err := net.ParseCIDR(c.address)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, l := range appendLink(nil, net.Interface{Index: 7, Flags: c.flags}, &net.IPNet{IP: ip, Mask: subnet.Mask}) {
			if got = l.prefix.String(); l.device.Index == 0 {
				got = "not " + got
			}
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// TestWhereIsAskedByMulticast has a tunnel whose prefix is in that of the LAN, and a LAN on two interfaces.
func TestWhereIsAskedByMulticast(t *testing.T) {
	log, _ := logged()
	lan, guests := net.Interface{Index: 7, Name: "lan"}, net.Interface{Index: 8, Name: "guests"}
	m := newMDNS(func() ([]link, error) {
		return []link{
			{netip.MustParsePrefix("10.0.0.0/8"), lan}, {netip.MustParsePrefix("10.8.0.0/24"), net.Interface{}},
			{netip.MustParsePrefix("10.9.0.0/24"), guests}, {netip.MustParsePrefix("10.9.0.0/24"), lan},
		}, nil
	}, 1000, log)
	m.refresh()
	for addr, want := range map[string]string{"10.0.0.1": "lan", "10.8.0.1": "", "10.9.0.1": "guests", "192.168.1.1": ""} {
		device, ok := m.linkOf(netip.MustParseAddr(addr))
		if device.Name != want || ok != (want != "") {
			t.Errorf("%s is on %q, %v, want %q", addr, device.Name, ok, want)
		}
		m.name(netip.MustParseAddr(addr), true)
	}
	if n := len(m.answers.queue); n != 2 {
		t.Errorf("asks about %d addresses, want 2", n)
	}
	for from, want := range map[string]bool{
		"10.0.0.1:5353": true, "[::ffff:10.0.0.1]:5353": true, "10.0.0.1:5354": false, "10.9.0.1:5353": false, "10.8.0.1:5353": false,
		"192.168.1.1:5353": false, "169.254.1.1:5353": true, "[fe80::1%lan]:5353": true, "[fe80::1%guests]:5353": false,
	} {
		if got := m.counts(lan, netip.MustParseAddrPort(from)); got != want {
			t.Errorf("a reply of %s counts: %v, want %v", from, got, want)
		}
	}
}

// TestListLinks reads this machine's addresses, whatever they are.
func TestListLinks(t *testing.T) {
	all, err := listLinks()
	if err != nil {
		t.Fatal(err)
	}
	if slices.ContainsFunc(all, func(l link) bool { return l.prefix != l.prefix.Masked() }) {
		t.Errorf("%v", all)
	}
}

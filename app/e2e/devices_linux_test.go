package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"promflow/capture/nettest"
)

// withIPv6 turns IPv6 on for a device.
func withIPv6(ns *nettest.Namespace, device string) {
	ns.Run("sysctl", "-qw", "net.ipv6.conf."+device+".disable_ipv6=0", "net.ipv6.conf."+device+".accept_dad=0")
}

// TestNameOfALeaseIsForAllAddressesOfTheDevice has a DHCP client with an IPv6 address of its own, which no file names.
func TestNameOfALeaseIsForAllAddressesOfTheDevice(t *testing.T) {
	t.Parallel()
	nettest.Need(t, "dnsmasq", "udhcpc", "ping")
	router, client := nettest.NewNamespace(t), nettest.NewNamespace(t)
	router.Veth("r0", client, "c0")
	withIPv6(router, "r0")
	withIPv6(client, "c0")
	client.IP("link", "set", "c0", "address", "02:00:00:00:00:02")
	addresses(router, "r0", "10.1.0.254/24", "fd00:1::fe/64")
	addresses(client, "c0", "fd00:1::2/64")
	leases := write(t, "leases", "")
	daemon(t, router, "DHCP, IP range", "dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--port=0", "--interface=r0", "--bind-interfaces",
		"--dhcp-range=10.1.0.50,10.1.0.50,1h", "--dhcp-leasefile="+leases, "--dhcp-authoritative", "--no-ping")
	p := serve(t, router, "--interface=r0", "--monitor-subnets=10.1.0.0/24,fd00:1::/64", "--host-info", "--lease-files="+leases, "--reverse-dns=false",
		"--mdns=false")
	script := write(t, "script", "#!/bin/sh\n[ \"$1\" != bound ] || ip addr replace \"$ip/24\" dev \"$interface\"\n")
	nettest.Check(t, os.Chmod(script, 0o755))
	daemon(t, client, "lease of 10.1.0.50 obtained", "udhcpc", "-i", "c0", "-f", "-n", "-t", "10", "-T", "1", "-x", "hostname:laptop", "-s", script)
	eventually(t, func() error { return client.Command("ping", "-q", "-c1", "-W1", "fd00:1::fe").Run() })
	p.called(map[string]string{
		"10.1.0.50": "laptop 02:00:00:00:00:02", "fd00:1::2": "laptop 02:00:00:00:00:02", "10.1.0.254": " ", "fd00:1::fe": " ",
	})
}

// networkdLeases is a file of systemd-networkd 257 with one lease.
const networkdLeases = `{"BootID":"d7f5041316de4f1f992a8a2822218a71","Address":[10,0,0,254],"PrefixLength":24,"Leases":[{"ClientId":[1,2,0,0,0,0,1],` +
	`"Address":[10,0,0,1],"Hostname":"%s","HardwareAddressType":1,"HardwareAddressLength":6,` +
	`"HardwareAddress":[2,0,0,0,0,1,0,0,0,0,0,0,0,0,0,0],"ExpirationUSec":72338380895,"ExpirationRealtimeUSec":%d}]}` + "\n"

// TestNamesOfNetworkd has the file of systemd-networkd come, change and go at its usual place.
func TestNamesOfNetworkd(t *testing.T) {
	t.Parallel()
	const state = "/var/lib/systemd"
	if _, err := os.Stat(state); err != nil {
		nettest.Lacks(t, state)
	}
	here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
	here.Veth("a0", there, "a0")
	folder := t.TempDir()
	nettest.Check(t, os.Chmod(filepath.Dir(folder), 0o755))
	p := start(t, here, insideMounts(t, here, map[string]string{state: folder}, "--interface=a0", "--metrics-address=127.0.0.1:0",
		"--monitor-subnets=10.0.0.0/8", "--host-info", "--reverse-dns=false", "--mdns=false")).listening()
	moves(t, there, "a0", "10.0.0.1")
	p.called(map[string]string{"10.0.0.1": " "})
	leases := filepath.Join(folder, "network", "dhcp-server-lease", "eth0")
	nettest.Check(t, os.MkdirAll(filepath.Dir(leases), 0o755))
	put := func(name string, ends time.Time) {
		t.Helper()
		nettest.Check(t, os.WriteFile(leases, fmt.Appendf(nil, networkdLeases, name, ends.UnixMicro()), 0o644))
	}
	put("laptop", time.Now().Add(time.Hour))
	p.called(map[string]string{"10.0.0.1": "laptop 02:00:00:00:00:01"})
	put("desktop", time.Now().Add(time.Hour))
	p.called(map[string]string{"10.0.0.1": "desktop 02:00:00:00:00:01"})
	put("desktop", time.Now().Add(-time.Hour))
	p.called(map[string]string{"10.0.0.1": " "})
	put("laptop", time.Now().Add(time.Hour))
	p.called(map[string]string{"10.0.0.1": "laptop 02:00:00:00:00:01"})
	nettest.Check(t, os.Remove(leases)) // after the last lease
	p.called(map[string]string{"10.0.0.1": " "})
}

// TestNamesFile gives names to an address, a MAC and a prefix, and changes them.
func TestNamesFile(t *testing.T) {
	t.Parallel()
	here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
	here.Veth("a0", there, "a0")
	here.IP("neigh", "replace", "10.0.0.2", "lladdr", "02:00:00:00:00:02", "dev", "a0", "nud", "permanent")
	names := write(t, "names", "10.0.0.1 laptop\n02:00:00:00:00:02 Living room TV\n10.0.0.0/24 inside\n")
	leases := write(t, "leases", "0 02:00:00:00:00:01 10.0.0.1 lease *\n")
	args := []string{"--interface=a0", "--monitor-subnets=10.0.0.0/8", "--host-info", "--reverse-dns=false", "--lease-files=" + leases}
	p := serve(t, here, append(args, "--names-file="+names)...)
	moves(t, there, "a0", "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.1.1")
	p.called(map[string]string{
		"10.0.0.1": "laptop 02:00:00:00:00:01", "10.0.0.2": "Living room TV 02:00:00:00:00:02", "10.0.0.3": "inside ", "10.0.1.1": " ",
	})
	put := func(text string) { t.Helper(); nettest.Check(t, os.WriteFile(names, []byte(text), 0o600)) }
	put("10.0.0.3 third\n")
	p.called(map[string]string{"10.0.0.1": "lease 02:00:00:00:00:01", "10.0.0.2": " 02:00:00:00:00:02", "10.0.0.3": "third "})
	put("10.0.0.3 third\nnonsense\n")
	nettest.Check(t, p.cmd.Process.Signal(syscall.SIGHUP))
	eventually(t, func() error {
		if log := p.log.String(); !strings.Contains(log, "reloading failed") || !strings.Contains(log, names+":2: ") {
			return fmt.Errorf("the log does not name line 2: %s", log)
		}
		return nil
	})
	p.called(map[string]string{"10.0.0.3": "third "})

	for _, c := range []struct{ name, file, want string }{
		{"wrong", names, names + ":2: "},
		{"not there", names + ".not", "no such file"},
	} {
		line, _ := fails(t, inside(t, here, append(args, "--names-file="+c.file, "--log-level=error")...))
		if !strings.Contains(line, "--names-file") || !strings.Contains(line, c.want) {
			t.Errorf("%s: said %q, want %q in there", c.name, line, c.want)
		}
	}
}

// TestNamesOfMulticastDNS asks a real responder, which knows both of its addresses.
func TestNamesOfMulticastDNS(t *testing.T) {
	t.Parallel()
	nettest.Need(t, "avahi-daemon")
	here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
	here.Veth("a0", there, "a0")
	withIPv6(here, "a0")
	withIPv6(there, "a0")
	addresses(here, "a0", "10.0.0.1/24", "fd00:1::1/64")
	addresses(there, "a0", "10.0.0.2/24", "fd00:1::2/64")
	config := write(t, "avahi.conf", "[server]\nhost-name=laptop\nenable-dbus=no\nuse-ipv4=yes\nuse-ipv6=yes\nallow-interfaces=a0\n"+
		"[publish]\npublish-addresses=yes\npublish-aaaa-on-ipv4=yes\n")
	// /run has the socket and process ID of the daemon that the machine may have.
	daemon(t, there, "Server startup complete", "sh", "-c", `mount -t tmpfs none /run && exec avahi-daemon --no-drop-root --no-chroot --no-rlimits --file="$0"`, config)
	p := serve(t, here, "--interface=a0", "--monitor-subnets=10.0.0.0/24,fd00:1::/64", "--host-info", "--reverse-dns=false", "--lease-files=")
	eventually(t, func() error {
		return errors.Join(here.Command("ping", "-q", "-c1", "-W1", "10.0.0.2").Run(), here.Command("ping", "-q", "-c1", "-W1", "fd00:1::2").Run())
	})
	eventually(t, func() error {
		page := p.get("/metrics")
		for _, ip := range []string{"10.0.0.2", "fd00:1::2"} {
			if want := fmt.Sprintf(`promflow_host_info{hostname="laptop.local",ip=%q`, ip); !strings.Contains(page, want) {
				return fmt.Errorf("no %s on the page: %s", want, page)
			}
		}
		return nil
	})
}

// questions are what a server was asked, and how often.
type questions struct {
	mu    sync.Mutex
	asked map[string]int
}

func (q *questions) add(name string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.asked[name]++
}

func (q *questions) all() map[string]int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return maps.Clone(q.asked)
}

// answering has a socket respond to questions until the test ends. No response is none.
func answering(t *testing.T, ns *nettest.Namespace, open func() (net.PacketConn, error), respond func(m *dnsmessage.Message) bool) {
	t.Helper()
	var c net.PacketConn
	nettest.Check(t, ns.Do(func() (err error) { c, err = open(); return err }))
	ended := make(chan struct{})
	t.Cleanup(func() { c.Close(); <-ended })
	go func() {
		defer close(ended)
		for b := make([]byte, 9000); ; {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(b[:n]) != nil || len(m.Questions) != 1 || !respond(&m) {
				continue
			}
			m.Response = true
			if packet, err := m.Pack(); err == nil {
				c.WriteTo(packet, from)
			}
		}
	}()
}

// isNamed makes a response that says so.
func isNamed(m *dnsmessage.Message, name string) {
	q := m.Questions[0]
	m.Additionals = nil
	m.Answers = []dnsmessage.Resource{{
		Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: dnsmessage.ClassINET, TTL: 10},
		Body:   &dnsmessage.PTRResource{PTR: dnsmessage.MustNewName(name)},
	}}
}

// TestMulticastQuestionsAreFew hears what promflow asks: once about each address on the link that has no name, and about no other.
func TestMulticastQuestionsAreFew(t *testing.T) {
	t.Parallel()
	here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
	here.Veth("a0", there, "a0")
	addresses(here, "a0", "10.0.0.1/24")
	addresses(there, "a0", "10.0.0.2/24")
	heard := &questions{asked: map[string]int{}}
	answering(t, there, func() (net.PacketConn, error) {
		device, err := net.InterfaceByName("a0")
		if err != nil {
			return nil, err
		}
		return net.ListenMulticastUDP("udp4", device, &net.UDPAddr{IP: net.IPv4(224, 0, 0, 251), Port: 5353})
	}, func(m *dnsmessage.Message) bool {
		name := m.Questions[0].Name.String()
		heard.add(name)
		switch name {
		case "3.0.0.10.in-addr.arpa.":
			isNamed(m, "three.local.")
			return true
		case "4.0.0.10.in-addr.arpa.": // which is not what was asked
			m.ID++
			isNamed(m, "four.local.")
			return true
		}
		return false
	})
	leases := write(t, "leases", "0 02:00:00:00:00:05 10.0.0.5 leased *\n")
	args := []string{"--interface=a0", "--monitor-subnets=10.0.0.0/8", "--host-info", "--reverse-dns=false", "--lease-files=" + leases}
	without := serve(t, here, append(args, "--mdns=false")...)
	moves(t, there, "a0", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.9.0.1")
	without.called(map[string]string{"10.0.0.3": " ", "10.0.0.5": "leased 02:00:00:00:00:05"})
	without.terminate()
	if all := heard.all(); len(all) > 0 {
		t.Errorf("asked %v, though it must not", all)
	}

	p := serve(t, here, args...)
	moves(t, there, "a0", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.9.0.1")
	p.called(map[string]string{"10.0.0.3": "three.local ", "10.0.0.4": " ", "10.0.0.5": "leased 02:00:00:00:00:05", "10.9.0.1": " "})
	want := map[string]int{"3.0.0.10.in-addr.arpa.": 1, "4.0.0.10.in-addr.arpa.": 1}
	eventually(t, func() error {
		got := heard.all()
		delete(got, "1.0.0.10.in-addr.arpa.") // promflow's own, which moves something as it asks
		delete(got, "2.0.0.10.in-addr.arpa.")
		if !maps.Equal(got, want) {
			return fmt.Errorf("asked %v, want %v", got, want)
		}
		return nil
	})
	for range 20 {
		p.get("/metrics")
	}
	for name, n := range heard.all() {
		if n != 1 {
			t.Errorf("asked %d times about %s", n, name)
		}
	}
}

// limited is a resolver that refuses a client beyond so many questions in a window.
type limited struct {
	window time.Duration
	most   int

	mu      sync.Mutex
	times   []time.Time // of questions in the window, also those that were refused
	ptr     int
	refused int
}

func (l *limited) respond(m *dnsmessage.Message) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	l.times = append(l.times, now)
	for now.Sub(l.times[0]) > l.window {
		l.times = l.times[1:]
	}
	q := m.Questions[0]
	m.RecursionAvailable, m.Additionals = true, nil
	if q.Type == dnsmessage.TypePTR {
		l.ptr++
	}
	switch {
	case len(l.times) > l.most:
		l.refused++
		m.RCode = dnsmessage.RCodeRefused
	case q.Type == dnsmessage.TypeA:
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 10}, Body: &dnsmessage.AResource{A: [4]byte{192, 0, 2, 1}},
		}}
	case q.Type == dnsmessage.TypePTR:
		m.RCode = dnsmessage.RCodeNameError
	}
	return true
}

func (l *limited) counts() (ptr, refused int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ptr, l.refused
}

// TestResolverHasRoomForOthers has a resolver that refuses a client beyond 1000 questions a minute, as Pi-hole does, and other programs'
// look-ups beside it. It counts them in 10 s, so that the test takes no minutes. The other resolver refuses promflow's questions from the
// start, as after somebody else's flood.
func TestResolverHasRoomForOthers(t *testing.T) {
	const window = 10 * time.Second
	for _, c := range []struct {
		name      string
		refuseAll bool
		most      func(took time.Duration) int // questions of promflow's
	}{
		{"that counts", false, func(took time.Duration) int { return int(took*240/time.Minute) + 1 }},
		{"that refuses", true, func(time.Duration) int { return 16 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
			here.Veth("a0", there, "a0")
			server := &limited{window: window, most: 1000 * int(window/time.Second) / 60}
			answering(t, here, func() (net.PacketConn, error) { return net.ListenPacket("udp", "127.0.0.1:53") }, func(m *dnsmessage.Message) bool {
				server.respond(m)
				if c.refuseAll && m.Questions[0].Type == dnsmessage.TypePTR {
					m.RCode = dnsmessage.RCodeRefused
				}
				return true
			})
			mounts := map[string]string{"/etc/resolv.conf": write(t, "resolv.conf", "nameserver 127.0.0.1\n"), "/etc/hosts": write(t, "hosts", "")}
			begin := time.Now()
			p := start(t, here, insideMounts(t, here, mounts, "--interface=a0", "--metrics-address=127.0.0.1:0", "--monitor-subnets=10.0.0.0/8",
				"--host-info", "--lease-files=")).listening()
			var all []string
			for i := range 1000 {
				all = append(all, fmt.Sprintf("10.0.%d.%d", i/250, i%250+1))
			}
			moves(t, there, "a0", all...)
			other := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return here.Dial(ctx, network, "127.0.0.1:53")
			}}
			for time.Since(begin) < 2*window {
				time.Sleep(time.Second)
				p.get("/metrics")
				if _, err := other.LookupHost(t.Context(), "a.example."); err != nil {
					t.Errorf("another program's look-up: %v", err)
				}
			}
			ptr, refused := server.counts()
			if most := c.most(time.Since(begin)); ptr == 0 || ptr > most || refused > 0 {
				t.Errorf("%d questions of promflow's, want 1 to %d; %d were too many for the resolver", ptr, most, refused)
			}
			if n := strings.Count(p.log.String(), "the resolver refuses to answer"); n > 1 || c.refuseAll != (n == 1) {
				t.Errorf("warned %d times: %s", n, p.log.String())
			}
		})
	}
}

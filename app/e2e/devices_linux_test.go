package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"promflow/capture/nettest"
	"promflow/telemetry/talkers"
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

// TestTopByDevice has two addresses of a MAC, as the kernel's neighbour table and a file say.
func TestTopByDevice(t *testing.T) {
	t.Parallel() // most of the time is for windows to pass
	here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
	here.Veth("a0", there, "a0")
	withIPv6(here, "a0")
	for ip, mac := range map[string]string{"10.0.0.1": "02:00:00:00:00:01", "fd00:1::1": "02:00:00:00:00:01", "10.0.0.2": "02:00:00:00:00:02"} {
		here.IP("neigh", "replace", ip, "lladdr", mac, "dev", "a0", "nud", "permanent")
	}
	counting := []string{
		"--interface=a0", "--monitor-subnets=10.0.0.0/8,fd00:1::/64", "--host-info", "--reverse-dns=false", "--mdns=false", "--lease-files=",
		"--names-file=" + write(t, "names", "02:00:00:00:00:01 laptop\n"),
	}
	p := serve(t, here, counting...)
	url := "http://" + p.address
	s := nettest.NewSender(t, there, "a0")
	send := func() { // so that the order of rows is the same at any time
		for _, ip := range strings.Fields("fd00:1::1 fd00:1::1 fd00:1::1 10.0.0.1 10.0.0.1 10.0.0.3 10.0.0.3 10.0.0.3 10.0.0.3 10.0.0.2") {
			to := netip.MustParseAddr("192.0.2.1")
			if strings.Contains(ip, ":") {
				to = netip.MustParseAddr("2001:db8::1")
			}
			s.Send(nettest.UDP(netip.MustParseAddr(ip), to, 1000))
		}
	}
	send()
	p.called(map[string]string{
		"10.0.0.1": "laptop 02:00:00:00:00:01", "fd00:1::1": "laptop 02:00:00:00:00:01", "10.0.0.2": " 02:00:00:00:00:02", "10.0.0.3": " ",
	})
	// check finds what is wrong with the devices of a report in JSON, and returns their totals.
	check := func(body string) (totals map[string]int64, err error) {
		d := json.NewDecoder(strings.NewReader(body))
		d.DisallowUnknownFields()
		var r talkers.Report
		if err := d.Decode(&r); err != nil {
			return nil, fmt.Errorf("%w: %s", err, body)
		}
		var rows []string
		totals = map[string]int64{}
		for _, k := range r.Talkers {
			rows = append(rows, strings.Join([]string{k.ID, k.IP, strings.Join(k.IPs, "+"), k.Hostname, k.MAC}, " "))
			totals[k.ID] = k.TransmitTotal
		}
		want := []string{
			"02:00:00:00:00:01 fd00:1::1 fd00:1::1+10.0.0.1 laptop 02:00:00:00:00:01",
			"10.0.0.3 10.0.0.3 10.0.0.3  ",
			"02:00:00:00:00:02 10.0.0.2 10.0.0.2  02:00:00:00:00:02",
		}
		if !slices.Equal(rows, want) || r.Matching != 3 || r.Addresses != 4 {
			err = fmt.Errorf("%q, %d of %d addresses, want %q", rows, r.Matching, r.Addresses, want)
		}
		return totals, err
	}
	eventually(t, func() error {
		totals, err := check(p.get(talkers.Path + "?by=device&sort=total"))
		page := hosts(t, p.get("/metrics"))
		if sum := page["10.0.0.1"].transmitBytes + page["fd00:1::1"].transmitBytes; err == nil && totals["02:00:00:00:00:01"] != int64(sum) {
			err = fmt.Errorf("the laptop has transmitted %d, and its addresses %v", totals["02:00:00:00:00:01"], sum)
		}
		return err
	})
	var filtered talkers.Report
	nettest.Check(t, json.Unmarshal([]byte(p.get(talkers.Path+"?by=device&filter=10.0.0.1")), &filtered))
	if len(filtered.Talkers) != 1 || filtered.Talkers[0].ID != "02:00:00:00:00:01" {
		t.Errorf("one of its addresses finds %+v", filtered.Talkers)
	}

	t.Run("JSON", func(t *testing.T) {
		t.Parallel()
		if _, err := check(prints(t, inside(t, here, "top", "--by=device", "--sort=total", "--output=json", url))); err != nil {
			t.Error(err)
		}
	})
	t.Run("text", func(t *testing.T) {
		t.Parallel()
		out := prints(t, inside(t, here, "top", "--by=device", "--sort=total", url))
		if !regexp.MustCompile(`(?m)^fd00:1::1 \+1 +laptop .*\n10\.0\.0\.3 .*\n10\.0\.0\.2 +02:00:00:00:00:02 `).MatchString(out) {
			t.Error(out)
		}
	})
	t.Run("drawn, as it captures", func(t *testing.T) {
		t.Parallel()
		term, _ := inTerminal(t, here, 80, 24, append([]string{"top", "--sort=total"}, counting...)...)
		term.until(has("no monitored address has moved anything"))
		send()
		term.until(has("1-4 of 4  by total"))
		term.typeText("d")
		term.until(has("1-3 of 3 devices  by total"))
		term.until(has("fd00:1::1 +1"))
		term.typeText("/laptop")
		term.press("Enter")
		term.until(has("1-1 of 1 devices"))
		term.press("Escape")
		term.until(has("1-3 of 3 devices")) // a key right behind Escape would be one with Alt
		term.typeText("d")
		term.until(has("1-4 of 4  by total"))
		term.typeText("q")
		term.mustBeBack(0, "what was before")
	})
}

// networkdRoot is a root filesystem with systemd-networkd. It is read before TestMain takes it away.
var networkdRoot = os.Getenv("PROMFLOW_TEST_NETWORKD")

const networkd = "/usr/lib/systemd/systemd-networkd"

// startNetworkd runs systemd-networkd until the test ends, with a .network file and a folder for its state. Its mounts end with it. It gets
// here what it otherwise has from systemd: its user, its folders, and word that it can write to the disk.
func startNetworkd(t *testing.T, ns *nettest.Namespace, config, state string) {
	t.Helper()
	const script = `set -e
cd "$0"
mount --rbind /proc proc
mount --rbind /dev dev
mount -o bind,ro /sys sys # else networkd waits for udev, which knows no interfaces of namespaces
mount -t tmpfs -o mode=755 none etc
mount -t tmpfs -o mode=755 none run
mount --bind "$2" var/lib/systemd
install -D -m 644 "$1" run/systemd/network/a0.network
export SYSTEMD_LOG_TARGET=console
chroot . systemd-sysusers systemd-network.conf
chroot . systemd-tmpfiles --create systemd-network.conf
export SYSTEMD_LOG_LEVEL=debug SYSTEMD_NETWORK_PERSISTENT_STORAGE_READY=1
exec chroot . ` + networkd
	daemon(t, ns, "Offering DHCPv4 leases", "sh", "-c", script, networkdRoot, write(t, "a0.network", config), state)
}

// TestNamesOfNetworkd has the file of systemd-networkd come, change and go at its usual place, as a client asks it for an address.
func TestNamesOfNetworkd(t *testing.T) {
	t.Parallel()
	nettest.Need(t, "udhcpc")
	const state = "/var/lib/systemd"
	if _, err := os.Stat(state); err != nil {
		nettest.Lacks(t, state)
	}
	if _, err := os.Stat(filepath.Join(networkdRoot, networkd)); networkdRoot == "" || err != nil {
		nettest.Lacks(t, "PROMFLOW_TEST_NETWORKD, a root filesystem with Debian 13's "+networkd)
	}
	here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
	here.Veth("a0", there, "a0")
	folder := t.TempDir()
	nettest.Check(t, os.Chmod(filepath.Dir(folder), 0o755))
	p := start(t, here, insideMounts(t, here, map[string]string{state: folder}, "--interface=a0", "--metrics-address=127.0.0.1:0",
		"--monitor-subnets=10.0.0.0/8", "--host-info", "--reverse-dns=false", "--mdns=false")).listening()
	startNetworkd(t, here, `[Match]
Name=a0
[Network]
Address=10.0.0.254/24
LinkLocalAddressing=no
IPv6AcceptRA=no
DHCPServer=yes
[DHCPServer]
PoolOffset=1
PoolSize=1
[DHCPServerStaticLease]
MACAddress=02:00:00:00:00:02
Address=10.0.0.2
`, folder)
	moves(t, there, "a0", "10.0.0.1", "10.0.0.2")
	p.called(map[string]string{"10.0.0.1": " ", "10.0.0.2": " "})

	leases := filepath.Join(folder, "network", "dhcp-server-lease", "a0")
	client := []string{"udhcpc", "-i", "a0", "-f", "-n", "-t", "10", "-T", "1", "-s", "true"}
	ask := func(name string, more ...string) {
		t.Helper()
		there.Run(append(append(client, "-q", "-x", "hostname:"+name), more...)...)
	}
	there.IP("link", "set", "a0", "address", "02:00:00:00:00:01")
	// Client IDs without a MAC.
	const laptop, phone = "0x3d:ff000000010002000000ab11d1", "0x3d:ff000000010002000000ab11d2"
	ask("laptop", "-x", laptop)
	p.called(map[string]string{"10.0.0.1": "laptop 02:00:00:00:00:01", "10.0.0.2": " "})
	ask("laptop", "-x", laptop, "-x", "lease:1")
	p.called(map[string]string{"10.0.0.1": " "})
	if text, err := os.ReadFile(leases); err != nil || !strings.Contains(string(text), `"laptop"`) {
		t.Errorf("the lease that has ended is not in the file any more, so this shows nothing of promflow: %v, %s", err, text)
	}
	ask("phone", "-x", phone)
	p.called(map[string]string{"10.0.0.1": "phone 02:00:00:00:00:01"})

	there.IP("link", "set", "a0", "address", "02:00:00:00:00:02")
	addresses(there, "a0", "10.0.0.2/24") // from which the client gives it back
	desktop, _ := daemon(t, there, "lease of 10.0.0.2 obtained", append(client, "-x", "hostname:desktop")...)
	p.called(map[string]string{"10.0.0.1": "phone 02:00:00:00:00:01", "10.0.0.2": "desktop 02:00:00:00:00:02"})
	nettest.Check(t, desktop.Signal(syscall.SIGUSR2))
	// The kernel's table has the MAC.
	p.called(map[string]string{"10.0.0.1": "phone 02:00:00:00:00:01", "10.0.0.2": " 02:00:00:00:00:02"})
	// systemd-networkd leaves the file, even without a lease.
	nettest.Check(t, os.Remove(leases))
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

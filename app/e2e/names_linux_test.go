package e2e

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"promflow/capture/nettest"
)

var hostInfoLine = regexp.MustCompile(`(?m)^promflow_host_info\{hostname="([^"]*)",ip="([^"]*)",mac="([^"]*)"\} 1$`)

// called waits until the page has these addresses, each with its hostname and MAC.
func (p *program) called(want map[string]string) {
	p.t.Helper()
	eventually(p.t, func() error {
		page := p.get("/metrics")
		got := map[string]string{}
		for _, m := range hostInfoLine.FindAllStringSubmatch(page, -1) {
			if _, twice := got[m[2]]; twice {
				p.t.Fatalf("%s is on the page twice: %s", m[2], page)
			}
			got[m[2]] = m[1] + " " + m[3]
		}
		for ip, is := range want {
			if got[ip] != is {
				return fmt.Errorf("%s is %q, want %q; the page has %q", ip, got[ip], is, got)
			}
		}
		for ip := range hosts(p.t, page) {
			if _, ok := got[ip]; !ok {
				return fmt.Errorf("%s has no promflow_host_info", ip)
			}
		}
		return nil
	})
}

// insideMounts is inside with files or folders of the test's in the place of the machine's: ip netns exec gives a program mounts of its
// own, which end with it.
func insideMounts(t *testing.T, ns *nettest.Namespace, mounts map[string]string, args ...string) *exec.Cmd {
	t.Helper()
	script := ""
	for at, file := range mounts {
		script += fmt.Sprintf("mount --bind '%s' '%s' && ", file, at)
	}
	cmd := ns.Command(append([]string{"sh", "-c", script + `exec "$0" "$@"`, self(t)}, args...)...)
	cmd.Env = append(os.Environ(), beProgram+"=1")
	return cmd
}

// daemon runs a program in the namespace until the test ends, once it has said that it is ready. What it says later is there, too.
func daemon(t *testing.T, ns *nettest.Namespace, ready string, args ...string) (*os.Process, *lineWaiter) {
	t.Helper()
	cmd := ns.Command(args...)
	said := newLineWaiter(ready)
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	said.wait(t)
	return cmd.Process, said
}

// moves has these addresses move something.
func moves(t *testing.T, ns *nettest.Namespace, device string, addresses ...string) {
	t.Helper()
	s := nettest.NewSender(t, ns, device)
	for _, a := range addresses {
		s.Send(nettest.UDP(netip.MustParseAddr(a), netip.MustParseAddr("192.0.2.1"), 100))
	}
}

// TestNamesOfLeases has a DHCP client ask a server for an address, under one name and then another, and give it back.
func TestNamesOfLeases(t *testing.T) {
	t.Parallel()
	nettest.Need(t, "dnsmasq", "udhcpc", "ping")
	router, client := nettest.NewNamespace(t), nettest.NewNamespace(t)
	router.Veth("r0", client, "c0")
	addresses(router, "r0", "10.1.0.254/24")
	client.IP("link", "set", "c0", "address", "02:00:00:00:00:01")
	leases := write(t, "leases", "")
	daemon(t, router, "DHCP, IP range", "dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--port=0", "--interface=r0", "--bind-interfaces",
		"--dhcp-range=10.1.0.50,10.1.0.50,1h", "--dhcp-leasefile="+leases, "--dhcp-authoritative", "--no-ping")
	p := serve(t, router, "--interface=r0", "--monitor-subnets=10.1.0.0/24", "--host-info", "--lease-files="+leases, "--reverse-dns=false")

	script := write(t, "script", "#!/bin/sh\n[ \"$1\" != bound ] || ip addr replace \"$ip/24\" dev \"$interface\"\n")
	if err := os.Chmod(script, 0o755); err != nil {
		t.Fatal(err)
	}
	ask := func(name string) *os.Process {
		t.Helper()
		asking, _ := daemon(t, client, "lease of 10.1.0.50 obtained", "udhcpc", "-i", "c0", "-f", "-n", "-t", "10", "-T", "1", "-x", "hostname:"+name, "-s", script)
		eventually(t, func() error { // once it has the address
			return client.Command("ping", "-q", "-c1", "-W1", "10.1.0.254").Run()
		})
		return asking
	}
	ask("laptop")
	p.called(map[string]string{"10.1.0.50": "laptop 02:00:00:00:00:01", "10.1.0.254": " "})
	asking := ask("desktop")
	p.called(map[string]string{"10.1.0.50": "desktop 02:00:00:00:00:01"})
	if err := asking.Signal(syscall.SIGUSR2); err != nil { // to give it back
		t.Fatal(err)
	}
	p.called(map[string]string{"10.1.0.50": " 02:00:00:00:00:01"})
}

// TestNamesOfNeighbours changes the kernel's table, which has what is no host's MAC, too.
func TestNamesOfNeighbours(t *testing.T) {
	t.Parallel()
	here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
	here.Veth("a0", there, "a0")
	here.Run("sysctl", "-qw", "net.ipv6.conf.a0.disable_ipv6=0")
	neighbour := func(ip, mac, state string) {
		here.IP("neigh", "replace", ip, "lladdr", mac, "dev", "a0", "nud", state)
	}
	neighbour("10.0.0.1", "02:00:00:00:00:01", "stale")
	neighbour("10.0.0.2", "02:00:00:00:00:02", "noarp")
	neighbour("10.0.0.3", "01:00:5e:00:00:01", "permanent")
	neighbour("fd00::1", "02:00:00:00:00:AB", "permanent")
	p := serve(t, here, "--interface=a0", "--monitor-subnets=10.0.0.0/8,fd00::/8", "--host-info", "--lease-files=", "--reverse-dns=false")
	moves(t, there, "a0", "10.0.0.1", "10.0.0.2", "10.0.0.3", "fd00::1")
	p.called(map[string]string{"10.0.0.1": " 02:00:00:00:00:01", "10.0.0.2": " ", "10.0.0.3": " ", "fd00::1": " 02:00:00:00:00:ab"})
	neighbour("10.0.0.1", "02:00:00:00:00:03", "stale")
	here.IP("neigh", "del", "fd00::1", "dev", "a0")
	p.called(map[string]string{"10.0.0.1": " 02:00:00:00:00:03", "fd00::1": " 02:00:00:00:00:ab"}) // the kernel forgets, promflow not so soon
}

// TestNamesOfDNS asks a real server, but not about what a file knows.
func TestNamesOfDNS(t *testing.T) {
	nettest.Need(t, "dnsmasq")
	here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
	here.Veth("a0", there, "a0")
	_, said := daemon(t, here, "started", "dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--log-queries",
		"--listen-address=127.0.0.1", "--bind-interfaces", "--local=/10.in-addr.arpa/", "--local=/ip6.arpa/",
		"--ptr-record=1.0.0.10.in-addr.arpa,server.example", "--ptr-record=2.0.0.10.in-addr.arpa,wrong.example",
		"--host-record=six.example,fd00::1")
	mounts := map[string]string{
		"/etc/resolv.conf": write(t, "resolv.conf", "nameserver 127.0.0.1\n"),
		"/etc/hosts":       write(t, "hosts", "10.0.0.2 printer\n"),
	}
	args := []string{"--interface=a0", "--metrics-address=127.0.0.1:0", "--monitor-subnets=10.0.0.0/8,fd00::/8", "--host-info", "--lease-files="}
	all := []string{"10.0.0.1", "10.0.0.2", "10.0.0.3", "fd00::1"}

	without := start(t, here, insideMounts(t, here, mounts, append(args, "--reverse-dns=false")...)).listening()
	moves(t, there, "a0", all...)
	without.called(map[string]string{"10.0.0.1": " ", "10.0.0.2": "printer ", "10.0.0.3": " ", "fd00::1": " "})
	without.terminate()
	if strings.Contains(said.String(), "query[") {
		t.Errorf("asked, though it must not: %s", said)
	}

	with := start(t, here, insideMounts(t, here, mounts, args...)).listening()
	moves(t, there, "a0", all...)
	with.called(map[string]string{"10.0.0.1": "server.example ", "10.0.0.2": "printer ", "10.0.0.3": " ", "fd00::1": "six.example "})
	eventually(t, func() error {
		if !strings.Contains(said.String(), "query[PTR] 3.0.0.10.in-addr.arpa") {
			return fmt.Errorf("not asked about 10.0.0.3: %s", said)
		}
		return nil
	})
	if strings.Contains(said.String(), "2.0.0.10.in-addr.arpa from") {
		t.Errorf("asked about what /etc/hosts has: %s", said)
	}
	for range 20 {
		with.get("/metrics")
	}
	if n := strings.Count(said.String(), "query[PTR] 1.0.0.10.in-addr.arpa"); n != 1 {
		t.Errorf("asked %d times: %s", n, said)
	}
}

// TestDeadResolverDelaysNothing has a server in resolv.conf whose packets go nowhere.
func TestDeadResolverDelaysNothing(t *testing.T) {
	t.Parallel()
	here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
	here.Veth("a0", there, "a0")
	addresses(here, "a0", "10.9.0.1/24")
	here.IP("route", "add", "192.0.2.0/24", "dev", "a0")
	here.IP("neigh", "replace", "192.0.2.53", "lladdr", "02:00:00:00:00:53", "dev", "a0", "nud", "permanent")
	leases := write(t, "leases", "0 02:00:00:00:00:01 10.0.0.1 laptop *\n")
	mounts := map[string]string{
		"/etc/resolv.conf": write(t, "resolv.conf", "nameserver 192.0.2.53\n"),
		"/etc/hosts":       write(t, "hosts", "10.0.0.2 printer\n"),
	}
	p := start(t, here, insideMounts(t, here, mounts, "--interface=a0", "--metrics-address=127.0.0.1:0", "--monitor-subnets=10.0.0.0/8",
		"--host-info", "--lease-files="+leases)).listening()
	var all []string
	for i := range 200 {
		all = append(all, fmt.Sprintf("10.0.0.%d", i+1))
	}
	moves(t, there, "a0", all...)
	eventually(t, func() error { // its questions are counted, too
		if questions := hosts(t, p.get("/metrics"))["10.9.0.1"]; questions.transmitBytes == 0 {
			return fmt.Errorf("the resolver is not asked")
		}
		return nil
	})
	for range 50 {
		begin := time.Now()
		if p.get("/metrics"); time.Since(begin) > time.Second {
			t.Errorf("a scrape took %v", time.Since(begin))
		}
	}
	p.called(map[string]string{"10.0.0.1": "laptop 02:00:00:00:00:01", "10.0.0.2": "printer ", "10.0.0.3": " "})
	if err := os.WriteFile(leases, []byte("0 02:00:00:00:00:01 10.0.0.1 desktop *\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.called(map[string]string{"10.0.0.1": "desktop 02:00:00:00:00:01"})
	if took := p.terminate(); took > 5*time.Second {
		t.Errorf("the end took %v", took)
	}
}

// TestNamesOnAllExporters looks at what is no page, which has the last counts at the end.
func TestNamesOnAllExporters(t *testing.T) {
	here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
	here.Veth("a0", there, "a0")
	out := newLineWaiter(`promflow_host_info{hostname="laptop",ip="10.0.0.1",mac="02:00:00:00:00:01"} 1`)
	receiver := collector(t, here, "127.0.0.1:4317")
	cmd := inside(t, here, "--interface=a0", "--metrics-address=127.0.0.1:0", "--monitor-subnets=10.0.0.0/8",
		"--exporters=console,otlp,prometheus", "--otlp-endpoint=127.0.0.1:4317", "--host-info", "--reverse-dns=false", "--lease-files="+write(t, "leases", "0 02:00:00:00:00:01 10.0.0.1 laptop *\n"))
	cmd.Stdout = out
	p := start(t, here, cmd).listening()
	moves(t, there, "a0", "10.0.0.1")
	p.called(map[string]string{"10.0.0.1": "laptop 02:00:00:00:00:01"})
	p.terminate()
	out.wait(t)
	const series = "promflow_host_info hostname=laptop ip=10.0.0.1 mac=02:00:00:00:00:01"
	if pushed := receiver.Values(); pushed[series] != 1 {
		t.Errorf("no %s was pushed, but %v", series, pushed)
	}
}

// TestNamesJoin has a real Prometheus answer the README's query while a name changes: the rate of a host goes on under the new one, and
// those that have none are there, too.
func TestNamesJoin(t *testing.T) {
	t.Parallel()
	nettest.Need(t, "prometheus")
	here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
	here.Veth("a0", there, "a0")
	leases := write(t, "leases", "0 02:00:00:00:00:01 10.0.0.1 laptop *\n")
	p := serve(t, here, "--interface=a0", "--monitor-subnets=10.0.0.0/8,192.0.2.1", "--host-info", "--reverse-dns=false", "--lease-files="+leases)
	prometheus := startPrometheus(t, here, fmt.Sprintf(`
global: {scrape_interval: 1s}
scrape_configs: [{job_name: promflow, static_configs: [{targets: ["%s"]}]}]
`, p.address))
	const query = `topk(5, sum by (ip) (rate(promflow_receive_bytes_total[30s])) * on(ip) group_left(hostname, mac) promflow_host_info) * 8`
	readme, err := os.ReadFile("../../telemetry/README.md")
	if err != nil || !strings.Contains(string(readme), "\n"+query+"\n") {
		t.Errorf("telemetry/README.md does not have %s: %v", query, err)
	}
	s := nettest.NewSender(t, there, "a0")
	joined := func(want ...string) {
		t.Helper()
		eventually(t, func() error {
			for _, ip := range []string{"10.0.0.1", "10.0.0.2"} {
				s.Send(nettest.UDP(netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr(ip), 100))
			}
			got := slices.Sorted(maps.Keys(prometheus.query(t, p, query, "ip", "hostname", "mac")))
			if !slices.Equal(got, want) {
				return fmt.Errorf("%q, want %q", got, want)
			}
			return nil
		})
	}
	joined("10.0.0.1 laptop 02:00:00:00:00:01", "10.0.0.2  ")
	if err := os.WriteFile(leases, []byte("0 02:00:00:00:00:01 10.0.0.1 desktop *\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	joined("10.0.0.1 desktop 02:00:00:00:00:01", "10.0.0.2  ")
}

// TestLeaseFilesMustBeReadableLater has files that root can read and nobody else.
func TestLeaseFilesMustBeReadableLater(t *testing.T) {
	const lease = "0 02:00:00:00:00:01 10.0.0.1 laptop *\n"
	const wellKnown = "/var/lib/misc"
	if _, err := os.Stat(wellKnown); err != nil {
		nettest.Lacks(t, wellKnown)
	}
	here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
	here.Veth("a0", there, "a0")
	leases := write(t, "dnsmasq.leases", lease)
	if err := os.Chown(leases, 0, 0); err != nil {
		t.Fatal(err)
	}
	args := []string{"--interface=a0", "--metrics-address=127.0.0.1:0", "--monitor-subnets=10.0.0.0/8", "--host-info", "--reverse-dns=false"}
	named := append(slices.Clone(args), "--lease-files="+leases)
	line, _ := fails(t, inside(t, here, append(named, "--log-level=error")...))
	for _, want := range []string{"--lease-files \"" + leases + "\"", "permission denied", "user 65532", "--user"} {
		if !strings.Contains(line, want) {
			t.Errorf("said %q, want %q in there", line, want)
		}
	}
	p := start(t, here, inside(t, here, append(named, "--user=root")...)).listening()
	moves(t, there, "a0", "10.0.0.1")
	p.called(map[string]string{"10.0.0.1": "laptop 02:00:00:00:00:01"})
	p.terminate()

	mounts := map[string]string{wellKnown: filepath.Dir(leases)}
	p = start(t, here, insideMounts(t, here, mounts, args...)).listening()
	moves(t, there, "a0", "10.0.0.1")
	p.called(map[string]string{"10.0.0.1": " "})
	if log := p.log.String(); strings.Count(log, "files cannot be read") != 1 || !strings.Contains(log, wellKnown+"/dnsmasq.leases") {
		t.Errorf("the log is %s", log)
	}
	hand(t, leases)
	p.called(map[string]string{"10.0.0.1": "laptop 02:00:00:00:00:01"})
	if log := p.log.String(); strings.Count(log, "a file can be read now") != 1 {
		t.Errorf("the log is %s", log)
	}
}

// TestLeaseFilesMayComeLater names one that is not there.
func TestLeaseFilesMayComeLater(t *testing.T) {
	t.Parallel()
	here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
	here.Veth("a0", there, "a0")
	leases := write(t, "leases", "")
	if err := os.Remove(leases); err != nil {
		t.Fatal(err)
	}
	p := serve(t, here, "--interface=a0", "--monitor-subnets=10.0.0.0/8", "--host-info", "--reverse-dns=false", "--lease-files="+leases)
	moves(t, there, "a0", "10.0.0.1")
	p.called(map[string]string{"10.0.0.1": " "})
	if log := p.log.String(); strings.Count(log, "a lease file is not there (yet)") != 1 {
		t.Errorf("the log is %s", log)
	}
	if err := os.WriteFile(leases, []byte("0 * 10.0.0.1 laptop *\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	p.called(map[string]string{"10.0.0.1": "laptop "})
}

func TestNamesThatAreNotAskedFor(t *testing.T) {
	ns := nettest.NewNamespace(t)
	p := serve(t, ns, "--interface=lo", "--lease-files=/nosuch", "--reverse-dns=false")
	for _, want := range []string{"--lease-files=[/nosuch]", "--reverse-dns=false"} {
		if log := p.log.String(); !strings.Contains(log, "no effect without --host-info") || !strings.Contains(log, want) {
			t.Errorf("the log has no %s: %s", want, log)
		}
	}
	if strings.Contains(p.get("/metrics"), "promflow_host_info") {
		t.Error("promflow_host_info is on the page")
	}
}

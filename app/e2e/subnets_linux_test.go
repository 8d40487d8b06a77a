package e2e

import (
	"fmt"
	"io"
	"net/http"
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

	"promflow/capture/nettest"
)

// monitoredOn returns the monitored subnets and their names on a page.
func monitoredOn(page string) string {
	var all []string
	for line := range strings.Lines(page) {
		if labels, ok := strings.CutPrefix(line, "promflow_monitored_subnets{"); ok {
			all = append(all, strings.TrimSuffix(labels, "} 1\n"))
		}
	}
	return strings.Join(all, "; ")
}

// TestReloads changes a file of subnets, and has the program read it again by all ways that there are.
func TestReloads(t *testing.T) {
	const good, bad = "lan=10.0.0.0/8 # the office\n", "# of two lines\n10.0.0.0/33\n"
	folder, err := os.MkdirTemp("", "promflow") // that other users may enter
	nettest.Check(t, err)
	defer os.RemoveAll(folder)
	nettest.Check(t, os.Chmod(folder, 0o755))
	file := filepath.Join(folder, "subnets")
	put := func(text string) {
		t.Helper()
		nettest.Check(t, os.WriteFile(file+".new", []byte(text), 0o644))
		nettest.Check(t, os.Rename(file+".new", file)) // as Kubernetes swaps links
	}
	ns := nettest.NewNamespace(t)
	put(good)
	all := programs{}
	for _, backend := range []string{"ebpf", "afpacket"} {
		all[backend] = serve(t, ns, "--interface=lo", "--capture="+backend, "--monitor-subnets=vpn=10.99.0.0/16,@"+file, "--enable-lifecycle")
	}
	expect := func(why, want string, successful float64) {
		t.Helper()
		for backend, p := range all {
			eventually(t, func() error {
				page := p.get("/metrics")
				if got := monitoredOn(page); got != want || sample(t, page, "promflow_config_last_reload_successful") != successful {
					return fmt.Errorf("%s, %s: monitored are %s, want %s, and that it succeeded: %v", why, backend, got, want, successful)
				}
				return nil
			})
		}
	}
	lan, vpn := `network="lan",subnet="10.0.0.0/8"`, `network="vpn",subnet="10.99.0.0/16"`
	expect("at first", lan+"; "+vpn, 1)
	put("2001:db8::/32")
	for _, p := range all {
		nettest.Check(t, p.cmd.Process.Signal(syscall.SIGHUP))
	}
	expect("SIGHUP", `network="2001:db8::/32",subnet="2001:db8::/32"; `+vpn, 1)
	put(good)
	expect("the file has changed", lan+"; "+vpn, 1)
	put(bad)
	for _, p := range all {
		status, body := post(t, p)
		if want := file + `:2: "10.0.0.0/33" is not a subnet`; status != http.StatusInternalServerError || !strings.Contains(body, want) {
			t.Errorf("POST of what is wrong: %d, %s; want %s", status, body, want)
		}
	}
	expect("an error", lan+"; "+vpn, 0)
	put("10.5.0.0/16")
	for _, p := range all {
		if status, body := post(t, p); status != http.StatusOK {
			t.Errorf("POST: %d, %s", status, body)
		}
	}
	expect("POST", `network="10.5.0.0/16",subnet="10.5.0.0/16"; `+vpn, 1)
	for backend, p := range all {
		if !strings.Contains(p.log.String(), file+":2:") {
			t.Errorf("%s: the log does not name the file and the line", backend)
		}
		p.terminate()
	}
}

func post(t *testing.T, p *program) (status int, body string) {
	t.Helper()
	response, err := p.client.Post("http://"+p.address+"/-/reload", "", nil)
	nettest.Check(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	nettest.Check(t, err)
	return response.StatusCode, string(text)
}

// TestReloadByHTTPIsOff asks a program that was not told to allow it.
func TestReloadByHTTPIsOff(t *testing.T) {
	p := serve(t, nettest.NewNamespace(t), "--interface=lo", "--monitor-subnets=10.0.0.0/8")
	if status, body := post(t, p); status != http.StatusForbidden || !strings.Contains(body, "--enable-lifecycle") {
		t.Errorf("got %d, %s", status, body)
	}
	p.terminate()
}

// TestSignals sends what users send: only some signals end the program, and these do it in order.
func TestSignals(t *testing.T) {
	ns := nettest.NewNamespace(t)
	for signal, ends := range map[syscall.Signal]bool{
		syscall.SIGHUP: false, syscall.SIGUSR1: false, syscall.SIGUSR2: false, syscall.SIGPIPE: false, syscall.SIGALRM: false, syscall.SIGWINCH: false,
		syscall.SIGTERM: true, syscall.SIGINT: true, syscall.SIGQUIT: true,
	} {
		p := serve(t, ns, "--interface=lo", "--monitor-subnets=10.0.0.0/8")
		nettest.Check(t, p.cmd.Process.Signal(signal))
		if ends {
			<-p.ended
			if p.err != nil {
				t.Errorf("%v: it ended with %v", signal, p.err)
			}
			continue
		}
		if p.get("/-/healthy") != "OK\n" {
			t.Errorf("%v: it does not answer", signal)
		}
		p.terminate()
	}
}

// TestMonitorsOnLinkSubnets has prefixes come, go and return on a captured interface, while one address sends all the time. One second after
// a prefix was announced, every packet of it counts.
func TestMonitorsOnLinkSubnets(t *testing.T) {
	const size, each = 200, 100
	for _, backend := range []string{"ebpf", "afpacket"} {
		t.Run(backend, func(t *testing.T) {
			here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
			here.Veth("here", there, "there")
			here.Run("sysctl", "-qw", "net.ipv6.conf.here.disable_ipv6=0", "net.ipv6.conf.here.accept_dad=0")
			here.IP("addr", "add", "10.1.0.1/24", "dev", "here")
			here.IP("addr", "add", "10.9.0.1/24", "dev", "lo")
			p := serve(t, here, "--interface=here", "--capture="+backend, "--monitor-subnets=lan=auto,vpn=10.8.0.0/24", "--expire-after=5s", "--packets")
			sender := nettest.NewSender(t, there, "there")
			elsewhere := map[bool]netip.Addr{true: netip.MustParseAddr("192.0.2.1"), false: netip.MustParseAddr("2001:db8:ffff::1")}
			done, constant, background := make(chan struct{}), netip.MustParseAddr("10.1.0.5"), int64(0)
			var sending sync.WaitGroup
			sending.Go(func() {
				other := nettest.NewSender(t, there, "there")
				for tick := time.NewTicker(time.Millisecond); ; background++ {
					select {
					case <-done:
						return
					case <-tick.C:
						other.Send(nettest.UDP(constant, elsewhere[true], size))
					}
				}
			})
			subnet := func(network, prefix string) string { return fmt.Sprintf("network=%q,subnet=%q", network, prefix) }
			always := []string{subnet("lan", "10.1.0.0/24"), subnet("vpn", "10.8.0.0/24")}
			expect := func(why string, more ...string) {
				t.Helper()
				want := slices.Sorted(slices.Values(append(more, always...)))
				eventually(t, func() error {
					if got := monitoredOn(p.get("/metrics")); got != strings.Join(want, "; ") {
						return fmt.Errorf("%s: monitored are %s, want %s", why, got, want)
					}
					return nil
				})
			}
			sent := map[string]int64{}
			send := func(prefix string) {
				for n := range int64(10) {
					addr := netip.MustParsePrefix(prefix).Addr()
					for range n + 2 {
						addr = addr.Next()
					}
					for range each {
						sender.Send(nettest.UDP(addr, elsewhere[addr.Is4()], size))
					}
					sent[addr.String()] += each
				}
			}
			announce := func(prefix string) {
				here.IP("addr", "add", netip.MustParsePrefix(prefix).Addr().Next().String()+prefix[strings.Index(prefix, "/"):], "dev", "here")
				time.Sleep(time.Second)
				send(prefix)
			}
			withdraw := func(prefix string) {
				here.IP("addr", "del", netip.MustParsePrefix(prefix).Addr().Next().String()+prefix[strings.Index(prefix, "/"):], "dev", "here")
				send(prefix) // which is still on its way
			}
			expect("at first")
			announce("2001:db8::/64")
			expect("one came", subnet("lan", "2001:db8::/64"))
			announce("2001:db8:1::/64") // renumbering
			withdraw("2001:db8::/64")
			announce("10.2.0.0/24")
			exact := func(why, within string) { // before they expire
				t.Helper()
				eventually(t, func() error {
					page := p.get("/metrics")
					all := hosts(t, page)
					for addr, packets := range sent {
						if !netip.MustParsePrefix(within).Contains(netip.MustParseAddr(addr)) {
							continue
						}
						if want := (counts{transmitBytes: packets * size, transmitPackets: packets}); all[addr] != want {
							return fmt.Errorf("%s: %s has %+v, want %+v", why, addr, all[addr], want)
						}
					}
					return nil
				})
			}
			exact("all of IPv6", "::/0")
			exact("all of IPv4", "0.0.0.0/0")
			expect("the old prefix goes once its addresses have expired", subnet("lan", "2001:db8:1::/64"), subnet("lan", "10.2.0.0/24"))
			announce("2001:db8::/64")
			exact("it returned", "2001:db8::/64")
			close(done)
			sending.Wait()
			eventually(t, func() error {
				if got := hosts(t, p.get("/metrics"))[constant.String()].transmitPackets; got != background {
					return fmt.Errorf("%v has sent %d packets, of which %d count", constant, background, got)
				}
				return nil
			})
			p.terminate()
		})
	}
}

// TestWarnsOfUnmonitoredSubnets has a captured interface with subnets that nobody listed: at the start, later, and twice.
func TestWarnsOfUnmonitoredSubnets(t *testing.T) {
	here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
	here.Veth("here", there, "there")
	here.Run("sysctl", "-qw", "net.ipv6.conf.here.disable_ipv6=0", "net.ipv6.conf.here.accept_dad=0")
	add := func(device string, addresses ...string) {
		t.Helper()
		for _, address := range addresses {
			here.IP("addr", "add", address, "dev", device)
		}
	}
	add("here", "10.1.0.1/24", "10.9.0.1/24", "fd00:1::1/64")
	add("lo", "10.3.0.1/24") // is not captured
	p := serve(t, here, "--interface=here", "--monitor-subnets=10.1.0.0/16", "--exclude-subnets=10.9.0.0/24")
	warned := regexp.MustCompile(`level=WARN msg="an interface that is captured has subnets that are not monitored: [^"]*--monitor-subnets[^"]*auto[^"]*" subnets="?\[([^\]]*)\]`)
	expect := func(why string, want ...string) {
		t.Helper()
		eventually(t, func() error {
			var got []string
			for _, m := range warned.FindAllStringSubmatch(p.log.String(), -1) {
				got = append(got, strings.Fields(m[1])...)
			}
			if !slices.Equal(got, want) {
				return fmt.Errorf("%s: the log warns of %v, want %v", why, got, want)
			}
			return nil
		})
	}
	expect("at first", "fd00:1::/64")
	add("here", "2001:db8::1/64")
	expect("one came", "fd00:1::/64", "2001:db8::/64")
	add("here", "2001:db8::2/64", "fd00:1::2/64", "10.1.7.1/24", "10.9.0.2/24")
	here.IP("addr", "del", "2001:db8::1/64", "dev", "here")
	add("here", "172.16.0.1/24")
	expect("others of the same subnets, and one of another", "fd00:1::/64", "2001:db8::/64", "172.16.0.0/24")
	p.terminate()
	expect("at the end", "fd00:1::/64", "2001:db8::/64", "172.16.0.0/24")

	p = serve(t, here, "--interface=here", "--monitor-subnets=auto")
	add("here", "2001:db8:1::1/64")
	eventually(t, func() error {
		if got := monitoredOn(p.get("/metrics")); !strings.Contains(got, "2001:db8:1::/64") {
			return fmt.Errorf("monitored are %s", got)
		}
		return nil
	})
	p.terminate()
	expect("with auto")
}

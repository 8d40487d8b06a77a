package e2e

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

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

// TestMonitorsOnLinkSubnets has prefixes come and go on a captured interface, and on another one.
func TestMonitorsOnLinkSubnets(t *testing.T) {
	for _, backend := range []string{"ebpf", "afpacket"} {
		t.Run(backend, func(t *testing.T) {
			here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
			here.Veth("here", there, "there")
			here.Run("sysctl", "-qw", "net.ipv6.conf.here.disable_ipv6=0", "net.ipv6.conf.here.accept_dad=0")
			here.IP("addr", "add", "10.1.0.1/24", "dev", "here")
			here.IP("addr", "add", "10.9.0.1/24", "dev", "lo")
			p := serve(t, here, "--interface=here", "--capture="+backend, "--monitor-subnets=lan=auto,vpn=10.8.0.0/24", "--expire-after=5s")
			expect := func(want ...string) {
				t.Helper()
				eventually(t, func() error {
					if got := monitoredOn(p.get("/metrics")); got != strings.Join(want, "; ") {
						return errors.New(got)
					}
					return nil
				})
			}
			lan, vpn, six := `network="lan",subnet="10.1.0.0/24"`, `network="vpn",subnet="10.8.0.0/24"`, `network="lan",subnet="2001:db8::/64"`
			expect(lan, vpn)
			here.IP("addr", "add", "2001:db8::1/64", "dev", "here")
			expect(lan, six, vpn)
			here.IP("addr", "del", "2001:db8::1/64", "dev", "here")
			expect(lan, six, vpn)
			expect(lan, vpn) // once its addresses have expired
			p.terminate()
		})
	}
}

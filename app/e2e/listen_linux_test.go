package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"promflow/capture/nettest"
)

// dualStack makes a namespace that has IPv4 and IPv6 addresses besides those of loopback.
func dualStack(t *testing.T) *nettest.Namespace {
	t.Helper()
	ns := nettest.NewNamespace(t)
	ns.Run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=0")
	ns.IP("addr", "add", "192.0.2.1/32", "dev", "lo")
	ns.IP("addr", "add", "2001:db8::1/128", "dev", "lo", "nodad")
	return ns
}

func TestAnswersAtAddressesAsWritten(t *testing.T) {
	ns := dualStack(t)
	var all []string
	for _, port := range []string{"9088", "9089"} {
		for _, host := range []string{"127.0.0.1", "192.0.2.1", "::1", "2001:db8::1"} {
			all = append(all, net.JoinHostPort(host, port))
		}
	}
	for _, c := range []struct {
		name, variable string
		addresses      []string // each by a flag of its own
		want           []string
	}{
		{name: "IPv4 only", addresses: []string{"0.0.0.0:9088"}, want: []string{"127.0.0.1:9088", "192.0.2.1:9088"}},
		{name: "IPv6 only", addresses: []string{"[::]:9088"}, want: []string{"[::1]:9088", "[2001:db8::1]:9088"}},
		{name: "both", addresses: []string{":9088"}, want: all[:4]},
		{name: "both, one by one", addresses: []string{"0.0.0.0:9088,[::]:9088"}, want: all[:4]},
		{name: "separated by commas", addresses: []string{"127.0.0.1:9088, [2001:db8::1]:9088,0.0.0.0:9089"},
			want: []string{"127.0.0.1:9088", "[2001:db8::1]:9088", "127.0.0.1:9089", "192.0.2.1:9089"}},
		{name: "by several flags", addresses: []string{"192.0.2.1:9088", "[::1]:9088,[::]:9089", "192.0.2.1:9088"},
			want: []string{"192.0.2.1:9088", "[::1]:9088", "[::1]:9089", "[2001:db8::1]:9089"}},
		{name: "by variable", variable: "192.0.2.1:9088,[::1]:9089", want: []string{"192.0.2.1:9088", "[::1]:9089"}},
		{name: "by a flag that beats the variable", variable: "192.0.2.1:9088", addresses: []string{"[::1]:9089"}, want: []string{"[::1]:9089"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := []string{"--interface=lo", "--monitor-subnets=10.0.0.0/8"}
			for _, address := range c.addresses {
				args = append(args, "--metrics-address="+address)
			}
			cmd := inside(t, ns, args...)
			cmd.Env = append(cmd.Env, "PROMFLOW_METRICS_ADDRESS="+c.variable)
			p := start(t, ns, cmd).listening()
			for _, address := range all {
				page, err := p.fetch("http://" + address + "/metrics")
				if answers := err == nil; answers != slices.Contains(c.want, address) {
					t.Errorf("answers at %s: %v (%v)", address, answers, err)
				}
				if err == nil {
					sample(t, page, "promflow_tracked_ips")
				}
			}
			p.terminate()
		})
	}
}

// TestServesAtUnixSocket has a program after another serve at the same socket.
func TestServesAtUnixSocket(t *testing.T) {
	ns := nettest.NewNamespace(t)
	folder := filepath.Join(t.TempDir(), "run")
	nettest.Check(t, os.Mkdir(folder, 0o755))
	hand(t, folder)
	nettest.Check(t, errors.Join(os.Chown(folder, 0, 0), os.Chmod(folder, os.ModeSticky|0o777))) // as /tmp: only who owns the socket removes it
	path := filepath.Join(folder, "promflow.sock")
	at := "--metrics-address=unix://" + path
	client := &http.Client{Timeout: deadline, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}}}
	serves := func(t *testing.T, mode os.FileMode, args ...string) *program {
		t.Helper()
		p := start(t, ns, inside(t, ns, append([]string{at, "--interface=lo", "--monitor-subnets=10.0.0.0/8"}, args...)...)).listening()
		info, err := os.Stat(path)
		nettest.Check(t, err)
		if info.Mode() != os.ModeSocket|mode {
			t.Errorf("the socket is %v, want %v", info.Mode(), os.ModeSocket|mode)
		}
		if response, page := request(t, client, "http://localhost/metrics", func(*http.Request) {}); response.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", response.Status, page)
		}
		return p
	}
	gone := func(t *testing.T) {
		t.Helper()
		if _, err := os.Lstat(path); !os.IsNotExist(err) {
			t.Errorf("the socket is still there after the end: %v", err)
		}
	}

	for mode, args := range map[os.FileMode][]string{
		0o660: nil,
		0o600: {"--metrics-socket-mode=0600"},
		0o666: {"--metrics-socket-mode=666"}, // a umask that root often has, 022, does not matter
	} {
		t.Run(fmt.Sprintf("with permissions %o", mode), func(t *testing.T) {
			serves(t, mode, args...).terminate()
			gone(t)
		})
	}
	t.Run("with an address", func(t *testing.T) {
		p := serves(t, 0o660, "--metrics-address=127.0.0.1:9088")
		if _, err := p.fetch("http://127.0.0.1:9088/metrics"); err != nil {
			t.Error(err)
		}
		p.terminate()
		gone(t)
	})
	t.Run("health", func(t *testing.T) {
		p := serves(t, 0o660)
		cmd := inside(t, ns, "health", at)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := runWithin(cmd); err != nil || out.String() != "OK\n" {
			t.Errorf("%v, said %q", err, &out)
		}
		p.terminate()
		if line, _ := fails(t, inside(t, ns, "health", at)); !strings.Contains(line, "no such file") {
			t.Errorf("said %q of a promflow that has ended", line)
		}
	})
	t.Run("after a crash", func(t *testing.T) {
		serves(t, 0o660).kill(t)
		if _, err := os.Lstat(path); err != nil {
			t.Fatalf("%v: this test shows nothing", err)
		}
		if line, _ := fails(t, inside(t, ns, "health", at)); !strings.Contains(line, "connection refused") {
			t.Errorf("said %q of a promflow that has crashed", line)
		}
		serves(t, 0o660).terminate()
		gone(t)
	})
	t.Run("while another serves there", func(t *testing.T) {
		p := serves(t, 0o660)
		line, _ := fails(t, inside(t, ns, at, "--interface=lo"))
		for _, want := range []string{"--metrics-address", path, "another program serves there"} {
			if !strings.Contains(line, want) {
				t.Errorf("said %q, which lacks %q", line, want)
			}
		}
		if response, page := request(t, client, "http://localhost/metrics", func(*http.Request) {}); response.StatusCode != http.StatusOK {
			t.Errorf("the other one then: %s: %s", response.Status, page)
		}
		p.terminate()
		gone(t)
	})
	t.Run("not in place of a file", func(t *testing.T) {
		nettest.Check(t, os.WriteFile(path, []byte("precious"), 0o600))
		defer os.Remove(path)
		if line, _ := fails(t, inside(t, ns, at, "--interface=lo")); !strings.Contains(line, path) {
			t.Errorf("said %q", line)
		}
		if content, err := os.ReadFile(path); string(content) != "precious" {
			t.Errorf("the file has %q, %v", content, err)
		}
	})
}

// TestWaitsForAddress has addresses come while promflow counts.
func TestWaitsForAddress(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, address, prefix string
		before, add           []string
	}{
		{"IPv4", "192.0.2.7:9088", "192.0.2.7/24", nil, nil},
		{"IPv6", "[2001:db8::7]:9088", "2001:db8::7/64", []string{"sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=0"}, []string{"nodad"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
			if c.before != nil {
				here.Run(c.before...)
			}
			here.Veth("a0", there, "a0")
			p := start(t, here, inside(t, here, "--metrics-address="+c.address, "--metrics-address=127.0.0.1:9088", "--interface=a0",
				"--monitor-subnets=10.0.0.0/8", "--packets")).listening()
			warned := false
			for line := range strings.Lines(p.log.String()) {
				warned = warned || strings.Contains(line, "level=WARN") && strings.Contains(line, c.address)
				if strings.Contains(line, "level=WARN") && strings.Contains(line, "127.0.0.1:9088") {
					t.Errorf("it warns of an address that is there: %s", line)
				}
			}
			if !warned {
				t.Errorf("it does not warn that it lacks %s", c.address)
			}
			agree := func(address string, packets int64) {
				t.Helper()
				eventually(t, func() error {
					page, err := p.fetch("http://" + address + "/metrics")
					if err != nil {
						return err
					}
					want, _ := oneAddress(packets)()
					return same(hosts(t, page), want)
				})
			}
			sendOn(t, there, "a0", 10)
			agree("127.0.0.1:9088", 10)
			if _, err := p.fetch("http://" + c.address + "/metrics"); err == nil {
				t.Errorf("it answers at %s before the machine has it: this test shows nothing", c.address)
			}
			here.IP(append([]string{"addr", "add", c.prefix, "dev", "a0"}, c.add...)...)
			agree(c.address, 10)
			sendOn(t, there, "a0", 5)
			agree(c.address, 15)
			p.terminate()
		})
	}
}

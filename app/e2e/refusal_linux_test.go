package e2e

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"promflow/capture/nettest"
)

func TestUnknownInterfaceNamesThoseWithDefaultRoute(t *testing.T) {
	here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
	for _, device := range []string{"lan0", "wan0", "wan6"} {
		here.Veth(device, there, device)
	}
	here.Run("sysctl", "-qw", "net.ipv6.conf.wan6.disable_ipv6=0")
	here.IP("addr", "add", "10.1.0.1/24", "dev", "lan0")
	here.IP("addr", "add", "10.2.0.1/24", "dev", "wan0")
	here.IP("route", "add", "10.0.0.0/8", "via", "10.1.0.2")
	here.IP("route", "add", "default", "via", "10.2.0.2")
	here.IP("route", "add", "default", "via", "fe80::1", "dev", "wan6")
	for _, args := range [][]string{{"--interface=eth9"}, nil} { // by default it is eth0
		line, printed := fails(t, inside(t, here, args...))
		name := append(args, "--interface=eth0")[0][len("--interface="):]
		want := fmt.Sprintf("promflow: --interface %q: no such network interface; this machine has lo, lan0, "+
			"wan0 (has the default route), wan6 (has the default route)\n", name)
		if line != want || printed != "" {
			t.Errorf("said %q and printed %q, want %q", line, printed, want)
		}
	}
}

// unprivileged is a copy of the program that nobody runs, with what the file has been granted.
type unprivileged struct {
	t    *testing.T
	ns   *nettest.Namespace
	path string
}

// with prepares the program to count what 127.0.0.2 moves on lo, and more subnets than an eBPF program has room for.
func (u unprivileged) with(backend string) *exec.Cmd {
	monitored := []string{"127.0.0.2"}
	for i := range 100 {
		monitored = append(monitored, fmt.Sprintf("10.%d.0.0/24", i), fmt.Sprintf("fd00:%d::/64", i))
	}
	cmd := u.ns.Command("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", u.path, "--capture="+backend,
		"--interface=lo", "--metrics-address=127.0.0.1:0",
		"--monitor-subnets="+strings.Join(monitored, ","), "--exclude-subnets=127.0.0.3,fd00:1::1")
	cmd.Env = append(os.Environ(), beProgram+"=1")
	return cmd
}

// counts checks that the program counts exactly, with the backend wanted, and returns its log.
func (u unprivileged) counts(backend, wanted string) string {
	u.t.Helper()
	p := start(u.t, u.ns, u.with(backend)).listening()
	if up := sample(u.t, p.get("/metrics"), fmt.Sprintf("promflow_capture_up{backend=%q,interface=\"lo\"}", wanted)); up != 1 {
		u.t.Errorf("capture_up is %v", up)
	}
	const count, size = 10, 100
	err := u.ns.Do(func() error {
		c, err := net.ListenPacket("udp", "127.0.0.2:0")
		if err != nil {
			return err
		}
		defer c.Close()
		for range count {
			if _, err := c.WriteTo(make([]byte, size), c.LocalAddr()); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		u.t.Fatal(err)
	}
	const bytes = count * (20 + 8 + size)
	eventually(u.t, func() error {
		return same(hosts(u.t, p.get("/metrics")), map[string]counts{"127.0.0.2": {receiveBytes: bytes, transmitBytes: bytes}})
	})
	p.terminate()
	return p.log.String()
}

// refused checks that the program fails for want of a capability, and returns the commands that it says to run.
func (u unprivileged) refused(backend, capability string) (commands []string) {
	u.t.Helper()
	line, printed := fails(u.t, u.with(backend))
	if !strings.Contains(line, "needs "+capability) || printed != "" {
		u.t.Errorf("said %q and printed %q", line, printed)
	}
	return commandsIn(line)
}

var afterSudo = regexp.MustCompile(`sudo (setcap \S+ [^\s;"]+)`)

func commandsIn(line string) (commands []string) {
	for _, m := range afterSudo.FindAllStringSubmatch(line, -1) {
		commands = append(commands, m[1])
	}
	return commands
}

// grant runs a command that the program has printed.
func (u unprivileged) grant(command string) {
	u.t.Helper()
	if out, err := exec.Command("sh", "-c", command).CombinedOutput(); err != nil {
		u.t.Fatalf("%s: %v: %s", command, err, out)
	}
}

// TestMissingCapability has nobody run the program: what it says to do must help.
func TestMissingCapability(t *testing.T) {
	nettest.Need(t, "setcap", "setpriv")
	u := unprivileged{t, nettest.NewNamespace(t), copyForEveryone(t)}
	forBoth := "setcap cap_net_raw,cap_bpf+ep " + u.path
	forOne := "setcap cap_net_raw+ep " + u.path

	// With nothing granted, any backend will do.
	if got := u.refused("afpacket", "cap_net_raw"); !slices.Equal(got, []string{forOne}) {
		t.Errorf("says to run %q", got)
	}
	if got := u.refused("ebpf", "cap_"); !slices.Equal(got, []string{forBoth}) {
		t.Errorf("says to run %q", got)
	}
	if got := u.refused("auto", "cap_net_raw"); !slices.Equal(got, []string{forBoth, forOne}) {
		t.Errorf("says to run %q", got)
	}

	u.grant(forBoth)
	if log := u.counts("auto", "ebpf"); strings.Contains(log, "level=WARN") {
		t.Errorf("warns of something: %s", log)
	}
	u.counts("ebpf", "ebpf")
	u.counts("afpacket", "afpacket")

	u.grant(forOne)
	warnings := regexp.MustCompile(`(?m)^.*level=WARN.*$`).FindAllString(u.counts("auto", "afpacket"), -1)
	if len(warnings) != 1 || !strings.Contains(warnings[0], "needs cap_bpf") || !slices.Equal(commandsIn(warnings[0]), []string{forBoth}) {
		t.Errorf("warns of %q, want cap_bpf and the command for it once", warnings)
	}
	if got := u.refused("ebpf", "cap_bpf"); !slices.Equal(got, []string{forBoth}) {
		t.Errorf("says to run %q", got)
	}
	u.counts("afpacket", "afpacket")
}

// TestLittleLockedMemory has nobody run the program where next to no memory may be locked: kernels before 5.11 count maps as that, and
// what it says to do must help. To others it does not matter.
func TestLittleLockedMemory(t *testing.T) {
	nettest.Need(t, "setcap", "setpriv")
	u := unprivileged{t, nettest.NewNamespace(t), copyForEveryone(t)}
	u.grant("setcap cap_net_raw,cap_bpf+ep " + u.path)
	locked := func(limit string) *exec.Cmd {
		cmd := u.ns.Command("sh", "-c", `ulimit -l "$0" && exec "$@"`, limit, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", u.path,
			"--capture=ebpf", "--interface=lo", "--metrics-address=127.0.0.1:0", "--monitor-subnets=10.0.0.0/8")
		cmd.Env = append(os.Environ(), beProgram+"=1")
		return cmd
	}
	if kernelBefore(t, 5, 11) {
		line, _ := fails(t, locked("64"))
		for _, part := range []string{"there may be 64 KiB here", "ulimit -l unlimited", "LimitMEMLOCK=infinity", "cap_sys_resource+ep"} {
			if !strings.Contains(line, part) {
				t.Errorf("said %q, and nothing of %s", line, part)
			}
		}
		start(t, u.ns, locked("unlimited")).listening()
		for _, command := range commandsIn(line) {
			u.grant(command)
		}
	}
	start(t, u.ns, locked("64")).listening()
}

// copyForEveryone copies the test binary to where every user can run it, with what capabilities it may be given.
func copyForEveryone(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		t.Fatal(err)
	}
	if fs.Flags&(unix.ST_NOSUID|unix.ST_NOEXEC) != 0 {
		nettest.Lacks(t, "a temporary directory that is mounted without nosuid and noexec")
	}
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	from, err := os.Open(self(t))
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	path := filepath.Join(dir, "promflow")
	to, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(to, from); err != nil {
		t.Fatal(err)
	}
	if err := to.Close(); err != nil { // before it can be run
		t.Fatal(err)
	}
	return path
}

package app

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"promflow/capture/capturetest"
)

func TestUnknownInterfaceNamesThoseWithDefaultRoute(t *testing.T) {
	here, there := capturetest.NewNamespace(t), capturetest.NewNamespace(t)
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

// TestMissingCapability runs a copy of the program as nobody: the command that it prints must help.
func TestMissingCapability(t *testing.T) {
	capturetest.Need(t, "setcap", "setpriv")
	ns := capturetest.NewNamespace(t)
	path := copyForEveryone(t)
	unprivileged := func() *exec.Cmd {
		cmd := ns.Command("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", path, "--interface=lo",
			"--monitor-subnets=127.0.0.2", "--metrics-address=127.0.0.1:0")
		cmd.Env = append(os.Environ(), beProgram+"=1")
		return cmd
	}
	line, printed := fails(t, unprivileged())
	if !strings.Contains(line, "cap_net_raw") || printed != "" {
		t.Fatalf("said %q and printed %q", line, printed)
	}
	command := regexp.MustCompile(`sudo (setcap \S+ (\S+))\n$`).FindStringSubmatch(line)
	if command == nil || command[2] != path {
		t.Fatalf("%q does not end with the command for %s", line, path)
	}
	if out, err := exec.Command("sh", "-c", command[1]).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", command[1], err, out)
	}

	p := start(t, ns, unprivileged()).listening()
	const count, size = 10, 100
	err := ns.Do(func() error {
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
		t.Fatal(err)
	}
	const bytes = count * (20 + 8 + size)
	eventually(t, func() error {
		return same(hosts(t, p.get("/metrics")), map[string]counts{"127.0.0.2": {receiveBytes: bytes, transmitBytes: bytes}})
	})
	p.terminate()
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
		capturetest.Lacks(t, "a temporary directory that is mounted without nosuid and noexec")
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

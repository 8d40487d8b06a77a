package testnet

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"promflow/capture"
)

// Namespace is a network namespace that is deleted at the end of the test. Its lo is up. IPv6 is off until a test turns it on, so that no
// packets pass except those of the test.
type Namespace struct {
	Name string
	t    testing.TB
}

var namespaces atomic.Int32

// NewNamespace needs root and ip(8).
func NewNamespace(t testing.TB) *Namespace {
	t.Helper()
	NeedRoot(t)
	Need(t, "ip", "sysctl")
	n := &Namespace{fmt.Sprintf("promflow-%d-%d", os.Getpid(), namespaces.Add(1)), t}
	run(t, "ip", "netns", "add", n.Name)
	t.Cleanup(func() { run(t, "ip", "netns", "del", n.Name) })
	n.Run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
	n.IP("link", "set", "lo", "up")
	return n
}

// Veth connects two namespaces by interface a in n and b in peer, both up.
func (n *Namespace) Veth(a string, peer *Namespace, b string) {
	n.t.Helper()
	run(n.t, "ip", "link", "add", a, "netns", n.Name, "type", "veth", "peer", "name", b, "netns", peer.Name)
	n.IP("link", "set", a, "up")
	peer.IP("link", "set", b, "up")
}

// Tun makes a tun or tap device in n, up, and returns its file, which is closed at the end of the test. With IFF_VNET_HDR the file takes
// merged segments.
func (n *Namespace) Tun(name string, flags uint16) *os.File {
	n.t.Helper()
	var tun *os.File
	err := n.Do(func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		// This is last, because Go's poller adds the file in its present state.
		defer func() { tun = os.NewFile(uintptr(fd), name) }()
		req, err := unix.NewIfreq(name)
		if err != nil {
			return err
		}
		req.SetUint16(flags)
		if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
			return err
		}
		if flags&unix.IFF_VNET_HDR == 0 {
			return nil
		}
		const tcp, udp = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6, unix.TUN_F_USO4 | unix.TUN_F_USO6
		err = unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, tcp|udp)
		if errors.Is(err, unix.EINVAL) { // before Linux 6.2, which splits merged UDP itself
			err = unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, tcp)
		}
		return err
	})
	if tun != nil {
		n.t.Cleanup(func() { tun.Close() })
	}
	if errors.Is(err, fs.ErrNotExist) {
		Lacks(n.t, "/dev/net/tun")
	}
	if err != nil {
		n.t.Fatal(err)
	}
	n.IP("link", "set", name, "up")
	return tun
}

// SetTunType sets the ARPHRD_ type of a tun or tap device, which must be down meanwhile.
func (n *Namespace) SetTunType(tun *os.File, name string, arphrd int) {
	n.t.Helper()
	n.IP("link", "set", name, "down")
	conn, err := tun.SyscallConn()
	if err != nil {
		n.t.Fatal(err)
	}
	var refused error
	err = conn.Control(func(fd uintptr) { refused = unix.IoctlSetInt(int(fd), unix.TUNSETLINK, arphrd) })
	if err := errors.Join(err, refused); err != nil {
		n.t.Fatalf("setting the type of %s to %d: %v", name, arphrd, err)
	}
	n.IP("link", "set", name, "up")
}

// Interface returns the present state of an interface of the namespace.
func (n *Namespace) Interface(name string) capture.Interface {
	n.t.Helper()
	var links []struct {
		Index    int `json:"ifindex"`
		Flags    []string
		LinkType string `json:"link_type"`
		LinkInfo struct {
			Kind string `json:"info_kind"`
			Data struct {
				Type string
			} `json:"info_data"`
		}
	}
	if err := json.Unmarshal([]byte(n.IP("-d", "-j", "link", "show", name)), &links); err != nil {
		n.t.Fatal(err)
	}
	l := links[0]
	ethernet := l.LinkType == "ether" || l.LinkType == "loopback"
	if l.LinkInfo.Kind == "tun" && l.LinkInfo.Data.Type == "tun" {
		ethernet = false
	}
	return capture.Interface{Name: name, Index: l.Index, Ethernet: ethernet, Loopback: slices.Contains(l.Flags, "LOOPBACK")}
}

// IP runs ip(8) on the namespace.
func (n *Namespace) IP(args ...string) string {
	n.t.Helper()
	return run(n.t, append([]string{"ip", "-n", n.Name}, args...)...)
}

// Run runs a program in the namespace and returns its output. The test fails if the program does.
func (n *Namespace) Run(args ...string) string {
	n.t.Helper()
	return run(n.t, append([]string{"ip", "netns", "exec", n.Name}, args...)...)
}

// Command returns a command that runs in the namespace.
func (n *Namespace) Command(args ...string) *exec.Cmd {
	return exec.Command("ip", append([]string{"netns", "exec", n.Name}, args...)...)
}

// Do calls f on a thread in the namespace. The sockets that f opens stay in the namespace.
func (n *Namespace) Do(f func() error) error {
	done := make(chan error)
	go func() {
		// The thread is never unlocked: it ends with the goroutine.
		runtime.LockOSThread()
		fd, err := unix.Open("/run/netns/"+n.Name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = unix.Setns(fd, unix.CLONE_NEWNET)
			unix.Close(fd)
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

func run(t testing.TB, args ...string) string {
	t.Helper()
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

package nettest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"promflow/capture"
)

// Namespace is a network namespace that is deleted at the end of the test. Its lo is up. IPv6 is off until a test turns it on, so that no
// packets pass except those of the test. It is that of a thread, and goes away with it: however the test ends, no more is left of it than
// a name that leads nowhere.
type Namespace struct {
	Name string // as ip(8) knows it
	t    TB
	cpu  *unix.CPUSet // where Do runs, if not everywhere
}

var namespaces atomic.Int32

// NewNamespace needs root and ip(8).
func NewNamespace(t TB) *Namespace {
	t.Helper()
	NeedRoot(t)
	Need(t, "ip")
	n := &Namespace{Name: fmt.Sprintf("promflow-%d-%d", os.Getpid(), namespaces.Add(1)), t: t}
	made, end := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		made <- n.enter()
		<-end
	}()
	t.Cleanup(func() {
		os.Remove(n.path())
		close(end)
	})
	Check(t, <-made)
	n.IP("link", "set", "lo", "up")
	return n
}

func (n *Namespace) path() string { return "/run/netns/" + n.Name }

// enter moves the calling thread into a new namespace, and names that.
func (n *Namespace) enter() error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("making a network namespace: %w", err)
	}
	for _, interfaces := range []string{"all", "default"} {
		err := os.WriteFile("/proc/sys/net/ipv6/conf/"+interfaces+"/disable_ipv6", []byte("1"), 0)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // a kernel without IPv6 has no such file
			return fmt.Errorf("turning IPv6 off: %w", err)
		}
	}
	if err := os.MkdirAll(filepath.Dir(n.path()), 0o755); err != nil {
		return err
	}
	os.Remove(n.path()) // of a process that was killed, and had the same number
	return os.Symlink(fmt.Sprintf("/proc/%d/task/%d/ns/net", os.Getpid(), unix.Gettid()), n.path())
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
	Check(n.t, err)
	n.IP("link", "set", name, "up")
	return tun
}

// SetTunType sets the ARPHRD_ type of a tun or tap device, which must be down meanwhile.
func (n *Namespace) SetTunType(tun *os.File, name string, arphrd int) {
	n.t.Helper()
	n.IP("link", "set", name, "down")
	conn, err := tun.SyscallConn()
	Check(n.t, err)
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
	link := n.link(name)
	a := link.Attrs()
	tun, is := link.(*netlink.Tuntap)
	ethernet := (a.EncapType == "ether" || a.EncapType == "loopback") && !(is && tun.Mode == netlink.TUNTAP_MODE_TUN)
	i := capture.Interface{Name: name, Index: a.Index, Ethernet: ethernet, Loopback: a.Flags&net.FlagLoopback != 0, MTU: a.MTU}
	copy(i.Address[:], a.HardwareAddr)
	return i
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
		defer close(done)
		// The thread is never unlocked: it ends with the goroutine.
		runtime.LockOSThread()
		fd, err := unix.Open(n.path(), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = unix.Setns(fd, unix.CLONE_NEWNET)
			unix.Close(fd)
		}
		if err == nil && n.cpu != nil {
			err = unix.SchedSetaffinity(0, n.cpu)
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	err, returned := <-done
	if !returned {
		runtime.Goexit() // as f did, which has failed
	}
	return err
}

// Dial connects from within the namespace to an address that is not a name.
func (n *Namespace) Dial(ctx context.Context, network, address string) (c net.Conn, err error) {
	err = n.Do(func() (err error) {
		c, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return c, err
}

// Listen listens for TCP within the namespace, at an address such as 127.0.0.1:0. Whoever takes the listener closes it.
func (n *Namespace) Listen(address string) (l net.Listener) {
	n.t.Helper()
	Check(n.t, n.Do(func() (err error) {
		l, err = net.Listen("tcp", address)
		return err
	}))
	return l
}

// Counters are the kernel's of an interface: packets.
type Counters struct{ Received, ReceiveDropped, Sent, SendDropped int64 }

// Counters returns the counters of an interface since it was made.
func (n *Namespace) Counters(name string) Counters {
	n.t.Helper()
	s := n.link(name).Attrs().Statistics
	return Counters{int64(s.RxPackets), int64(s.RxDropped), int64(s.TxPackets), int64(s.TxDropped)}
}

func (n *Namespace) link(name string) (link netlink.Link) {
	n.t.Helper()
	Check(n.t, n.Do(func() (err error) { link, err = netlink.LinkByName(name); return err }))
	return link
}

func run(t TB, args ...string) string {
	t.Helper()
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

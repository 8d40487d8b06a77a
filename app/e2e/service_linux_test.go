package e2e

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"promflow/capture/nettest"
)

// manager is what a service manager hears.
type manager struct {
	t    *testing.T
	conn *net.UnixConn
	path string
}

func newManager(t *testing.T) *manager {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	for _, each := range []string{path, filepath.Dir(path), filepath.Dir(filepath.Dir(path))} { // for who is not root any more
		if err := os.Chmod(each, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	return &manager{t, conn, path}
}

// hear waits for the next message.
func (m *manager) hear(within time.Duration) (string, error) {
	m.t.Helper()
	if err := m.conn.SetReadDeadline(time.Now().Add(within)); err != nil {
		m.t.Fatal(err)
	}
	buffer := make([]byte, 4096)
	n, err := m.conn.Read(buffer)
	return string(buffer[:n]), err
}

func (m *manager) hears(want string) {
	m.t.Helper()
	if got, err := m.hear(deadline); got != want || err != nil {
		m.t.Fatalf("the service manager heard %q, %v; want %q", got, err, want)
	}
}

func TestTellsServiceManager(t *testing.T) {
	t.Parallel()
	ns := nettest.NewNamespace(t)
	m := newManager(t)
	cmd := inside(t, ns, "--interface=lo", "--monitor-subnets=127.0.0.0/8", "--metrics-address=127.0.0.1:0", "--capture=afpacket")
	cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+m.path, "WATCHDOG_USEC=400000")
	p := start(t, ns, cmd)
	m.hears("READY=1\nSTATUS=capturing lo with afpacket")
	p.listening()
	for range 3 {
		m.hears("WATCHDOG=1")
	}
	p.terminate()
	for {
		got, err := m.hear(deadline)
		if got == "STOPPING=1" {
			break
		}
		if got != "WATCHDOG=1" || err != nil {
			t.Fatalf("the service manager heard %q, %v; want that promflow is stopping", got, err)
		}
	}
	if got, err := m.hear(time.Second); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the service manager heard %q, %v, after the end", got, err)
	}
}

// TestFailsBeforeItIsReady keeps promflow from saying that it is ready when it is not.
func TestFailsBeforeItIsReady(t *testing.T) {
	t.Parallel()
	ns := nettest.NewNamespace(t)
	m := newManager(t)
	cmd := inside(t, ns, "--interface=nowhere", "--metrics-address=127.0.0.1:0")
	cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+m.path)
	fails(t, cmd)
	if got, err := m.hear(100 * time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the service manager heard %q, %v", got, err)
	}
}

// passing prepares the program to run with sockets that a service manager listens on (sd_listen_fds(3)), which begin with the
// fourth file, and are for a process by its number.
func passing(t *testing.T, ns *nettest.Namespace, sockets []*os.File, args ...string) *exec.Cmd {
	t.Helper()
	cmd := ns.Command(append([]string{"sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`, self(t)}, args...)...)
	cmd.Env = append(os.Environ(), beProgram+"=1", "LISTEN_FDS="+strconv.Itoa(len(sockets)))
	cmd.ExtraFiles = sockets
	return cmd
}

// socketOf gives the file of a new socket that listens.
func socketOf(t *testing.T, listener interface {
	net.Listener
	File() (*os.File, error)
}) *os.File {
	t.Helper()
	file, err := listener.File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close(); listener.Close() })
	return file
}

func TestServesOnPassedSockets(t *testing.T) {
	t.Parallel()
	ns := nettest.NewNamespace(t)
	path := filepath.Join(t.TempDir(), "socket")
	unix, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	overUnix, overTCP := socketOf(t, unix), socketOf(t, tcp)
	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	overUDP, err := udp.File()
	if err != nil {
		t.Fatal(err)
	}
	defer overUDP.Close()
	flags := []string{"--interface=lo", "--monitor-subnets=127.0.0.0/8"}
	for _, c := range []struct {
		name    string
		sockets []*os.File
		at      []net.Addr
	}{
		{"unix", []*os.File{overUnix}, []net.Addr{unix.Addr()}},
		{"tcp", []*os.File{overTCP}, []net.Addr{tcp.Addr()}},
		{"both", []*os.File{overUnix, overTCP}, []net.Addr{unix.Addr(), tcp.Addr()}},
	} {
		t.Run(c.name, func(t *testing.T) {
			// Who connects before promflow runs is answered once it does.
			var conns []net.Conn
			for _, at := range c.at {
				conn, err := net.Dial(at.Network(), at.String())
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				conns = append(conns, conn)
			}
			p := start(t, ns, passing(t, ns, c.sockets, flags...))
			for i, conn := range conns {
				if err := conn.SetDeadline(time.Now().Add(deadline)); err != nil {
					t.Fatal(err)
				}
				if _, err := conn.Write([]byte("GET /metrics HTTP/1.0\r\n\r\n")); err != nil {
					t.Fatal(err)
				}
				answer := make([]byte, 15)
				if _, err := conn.Read(answer); err != nil || !strings.HasPrefix(string(answer), "HTTP/1.0 200 OK") {
					t.Errorf("%v: %q, %v", c.at[i], answer, err)
				}
			}
			p.terminate()
		})
	}
	for _, c := range []struct {
		name    string
		sockets []*os.File
		flags   []string
		want    []string
	}{
		{"one that does not listen", []*os.File{overTCP, overUDP}, flags, []string{"LISTEN_FDS", "does not listen"}},
		{"and an address", []*os.File{overTCP}, append(flags, "--metrics-address=:9089"),
			[]string{"--metrics-address", `":9089"`, "the service manager passes a socket", tcp.Addr().String()}},
	} {
		t.Run(c.name, func(t *testing.T) {
			line, _ := fails(t, passing(t, ns, c.sockets, c.flags...))
			for _, want := range c.want {
				if !strings.Contains(line, want) {
					t.Errorf("%q does not say %q", line, want)
				}
			}
		})
	}
}

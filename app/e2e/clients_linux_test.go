package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"promflow/capture/nettest"
)

// maxMemory is how much memory the program may take, in kB, with GOMEMLIMIT as in the recipes and whatever its clients do, as README states.
const maxMemory = 480 << 10

// TestClientsThatDoNotRead has several times as many clients as may be connected ask on every path and read nothing, while somebody scrapes. The link is a pair of
// devices: on lo, answers would be in the kernel's buffers at once. The program is built anew: with the race detector, which this test may
// have, it takes several times the memory.
func TestClientsThatDoNotRead(t *testing.T) {
	const addresses, patience = 65_536, time.Second
	clients := 2500 * *more
	nettest.Need(t, "go")
	binary := filepath.Join(t.TempDir(), "promflow")
	build := exec.Command("go", "build", "-o", binary, "promflow")
	build.Env = append(build.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	certificate, key, _ := selfSigned(t)
	// Some clients ask the same as others, some what nobody asks.
	paths := []string{"/metrics", "/api/v1/talkers?limit=1000", "/", "/api/v1/talkers?limit=1000&offset=%d", "/assets/uplot/uPlot.iife.min.js", "/-/ready"}
	path := func(i int) string {
		if p := paths[i%len(paths)]; p[len(p)-1] == 'd' {
			return fmt.Sprintf(p, i)
		} else {
			return p
		}
	}
	for _, c := range []struct {
		name   string
		config string
		ask    func(conn net.Conn, i int) (net.Conn, error)
	}{
		{"HTTP/1.1", "", func(conn net.Conn, i int) (net.Conn, error) {
			if i%4 == 3 { // very many fields, of which the last one does not come: the server closes the connection at some point
				_, _ = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\n%s", path(i), strings.Repeat("xabc:\r\n", 9000))
				return conn, nil
			}
			for range 1 + i%3 { // some do not wait for an answer before they ask again
				if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path(i)); err != nil {
					return conn, err
				}
			}
			return conn, nil
		}},
		{"HTTP/2", fmt.Sprintf("tls_server_config: {cert_file: %s, key_file: %s}\n", certificate, key), func(conn net.Conn, i int) (net.Conn, error) {
			secure := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
			var says []byte
			switch at := path(i / 7); i % 7 {
			case 0: // the streams have no window
				says = unreadStreams(100, at, 0, 0)
			case 1: // they have one, and nobody reads the connection
				says = unreadStreams(100, at, 1<<31-1, 0)
			case 2: // headers that do not end
				says = unreadStreams(1, at, 0, 0)
				says = says[:len(says)-1]
			case 3: // very many fields, and a path that is always answered
				says = unreadStreams(8, "/-/healthy", 0, 1500)
			case 4: // pings whose answers nobody reads
				says = append(unreadStreams(0, at, 0, 0), bytes.Repeat([]byte{0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8}, 9900)...)
			case 5: // requests that are taken back at once
				says = unreadStreams(20, "/nope", 1<<31-1, 0)
				for stream := range uint32(20) {
					says = append(says, 0, 0, 4, 3, 0, 0, 0, 0, byte(1+2*stream), 0, 0, 0, 8) // RST_STREAM, CANCEL
				}
			case 6: // idle
				return secure, secure.Handshake()
			}
			if _, err := secure.Write(says); err != nil && i%7 < 3 { // the server closes the others at some point
				return secure, err
			}
			return secure, nil
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var files unix.Rlimit
			if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
				t.Fatal(err)
			}
			if files.Cur < uint64(clients)+1000 {
				nettest.Lacks(t, fmt.Sprintf("a limit of open files of %d (ulimit -n)", clients+1000))
			}
			here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
			here.Veth("here", there, "there")
			here.IP("addr", "add", "10.77.0.1/24", "dev", "here")
			there.IP("addr", "add", "10.77.0.2/24", "dev", "there")
			there.IP("addr", "add", "10.77.0.3/24", "dev", "there") // of who scrapes
			args := []string{binary, "--metrics-address=10.77.0.1:0", "--interface=here", "--monitor-subnets=10.0.0.0/8"}
			url := "http://"
			if c.config != "" {
				args, url = append(args, "--web-config-file="+write(t, "web.yml", c.config)), "https://"
			}
			cmd := here.Command(args...)
			cmd.Env = append(cmd.Environ(), "GOMEMLIMIT=320MiB") // as in the unit
			limited := limitMemory(t, cmd, 512<<20)              // as the unit does
			p := start(t, there, cmd).listening()
			url += p.address + "/metrics"
			transport := p.client.Transport.(*http.Transport)
			transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
			transport.DialContext = func(ctx context.Context, network, address string) (conn net.Conn, err error) {
				own := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(10, 77, 0, 3)}}
				err = there.Do(func() (err error) { conn, err = own.DialContext(ctx, network, address); return err })
				return conn, err
			}
			sender := nettest.NewSender(t, there, "there")
			for i := range addresses {
				sender.Send(nettest.UDP(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), netip.MustParseAddr("192.0.2.1"), 100))
			}
			eventually(t, func() error {
				page, err := p.fetch(url)
				if err == nil && sample(t, page, "promflow_tracked_ips") < addresses {
					err = errors.New("not all addresses are on the page")
				}
				return err
			})
			before := resident(t, p)

			stop := make(chan struct{})
			var scraper sync.WaitGroup
			var scrapes, slow int
			scraper.Go(func() {
				for {
					p.client.CloseIdleConnections()
					begin := time.Now()
					if _, err := p.fetch(url); err != nil {
						t.Errorf("a scrape meanwhile: %v", err)
					}
					scrapes++
					if took := time.Since(begin); took > patience {
						slow++
						t.Logf("a scrape took %v", took)
					}
					select {
					case <-stop:
						return
					case <-time.After(patience):
					}
				}
			})
			dialer := net.Dialer{Timeout: deadline, Control: func(_, _ string, raw syscall.RawConn) (err error) {
				return errors.Join(raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4096) }), err)
			}}
			asked := 0
			for i := range clients {
				var conn net.Conn
				if err := there.Do(func() (err error) { conn, err = dialer.Dial("tcp", p.address); return err }); err != nil {
					t.Fatalf("client %d: %v", i, err)
				}
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(deadline))
				if conn, err := c.ask(conn, i); err == nil { // else it was closed for another one
					asked++
					defer conn.Close()
				}
			}
			<-time.After(2 * patience) // and they stay
			close(stop)
			scraper.Wait()
			most := resident(t, p)
			t.Logf("%d of %d clients have asked; %d scrapes, %d of them slow; resident at most %d kB before, %d kB since; with the kernel's memory %d kB",
				asked, clients, scrapes, slow, before, most, limited.peak(t)>>10)
			if asked < clients*9/10 {
				t.Error("this test shows nothing")
			}
			if slow > scrapes/4 || most > maxMemory { // the machine may be busy now and then
				t.Errorf("%d of %d scrapes took more than %v, and it took %d kB", slow, scrapes, patience, most)
			}
			p.terminate()
		})
	}
}

// memoryGroup is a control group that bounds the memory of a program, what the kernel allocates for it included.
type memoryGroup struct{ folder, peakFile string }

// limitMemory has a command, which has not started, run in a control group. The kernel ends it if it takes more and nothing can be reclaimed.
func limitMemory(t *testing.T, cmd *exec.Cmd, bytes int) memoryGroup {
	t.Helper()
	const root = "/sys/fs/cgroup"
	g, limitFile := memoryGroup{root + "/memory", "memory.max_usage_in_bytes"}, "memory.limit_in_bytes" // version 1
	if _, err := os.Stat(g.folder); err != nil {
		g, limitFile = memoryGroup{root, "memory.peak"}, "memory.max"
		_ = os.WriteFile(root+"/cgroup.subtree_control", []byte("+memory"), 0) // it may be on already; the next step fails if it is not
	}
	g.folder = filepath.Join(g.folder, fmt.Sprintf("promflow-%d", os.Getpid()))
	if err := os.Mkdir(g.folder, 0o755); err != nil {
		nettest.Lacks(t, "control groups that can be written to")
	}
	t.Cleanup(func() { // before that, the end of the program
		eventually(t, func() error { return os.Remove(g.folder) })
	})
	if err := os.WriteFile(filepath.Join(g.folder, limitFile), []byte(strconv.Itoa(bytes)), 0); err != nil {
		nettest.Lacks(t, "the memory controller of control groups")
	}
	join := []string{"sh", "-c", "echo $$ > " + g.folder + `/cgroup.procs && exec "$@"`, "sh"}
	cmd.Args = append(join, cmd.Args...)
	cmd.Path = "/bin/sh"
	return g
}

// peak is how much memory the group has taken at most, in bytes. Linux tells from 5.19 on with version 2 of control groups; before, it is 0.
func (g memoryGroup) peak(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(g.folder, g.peakFile))
	if errors.Is(err, fs.ErrNotExist) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestAnswersOnlyItsOwnSite asks the program as a browser does for a website that has its name resolve to the program's address.
func TestAnswersOnlyItsOwnSite(t *testing.T) {
	ns := nettest.NewNamespace(t)
	p := serve(t, ns, "--interface=lo", "--monitor-subnets=10.0.0.0/8", "--web-hosts=promflow.example.net")
	for host, status := range map[string]int{p.address: 200, "localhost": 200, "promflow.example.net": 200, "attacker.example:9088": 403} {
		for _, path := range []string{"/", "/api/v1/talkers", "/assets/page.js", "/metrics", "/-/healthy"} {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+p.address+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Host = host
			response, err := p.client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			want := status
			if path == "/metrics" || path == "/-/healthy" {
				want = 200
			}
			if response.StatusCode != want {
				t.Errorf("%s of %s: %s, want %d", path, host, response.Status, want)
			}
		}
	}
	p.terminate()
}

// unreadStreams is what a client of HTTP/2 writes that asks for a path several times, each time with so many fields more than it needs, and has a
// window for the answers: frames of RFC 9113, with headers of RFC 7541 that are not compressed.
func unreadStreams(n uint32, path string, window uint32, more int) []byte {
	b := []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	frame := func(kind, flags byte, stream uint32, payload []byte) {
		head := binary.BigEndian.AppendUint32(nil, uint32(len(payload))<<8|uint32(kind))
		b = append(binary.BigEndian.AppendUint32(append(append(b, head...), flags), stream), payload...)
	}
	const settings, headers, windowUpdate, initialWindowSize, endStreamAndHeaders = 4, 1, 8, 4, 5
	frame(settings, 0, 0, binary.BigEndian.AppendUint32([]byte{0, initialWindowSize}, window))
	if window > 1<<16 {
		frame(windowUpdate, 0, 0, binary.BigEndian.AppendUint32(nil, window-1<<16)) // of the connection
	}
	const get, https, pathName, authorityName = 0x82, 0x87, 0x04, 0x01 // in the static table
	fields := append([]byte{get, https, pathName, byte(len(path))}, path...)
	fields = append(append(fields, authorityName, byte(len("localhost"))), "localhost"...)
	fields = append(fields, bytes.Repeat([]byte{0, 2, 'x', 'y', 0}, more)...) // without a value
	for i := range n {
		frame(headers, endStreamAndHeaders, 1+2*i, fields)
	}
	return b
}

package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"promflow/capture/nettest"
)

// TestManyClients has thousands of clients connect that ask for nothing, or never to the end, while promflow counts and is scraped.
func TestManyClients(t *testing.T) {
	const clients, packets, size, patience = 10_000, 2000, 100, 10 * time.Second
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	if files.Cur < clients+1000 {
		nettest.Lacks(t, "a limit of open files of 11,000 (ulimit -n)")
	}
	here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
	here.Veth("here", there, "there")
	all := serveEach(t, here, "--interface=here", "--monitor-subnets=10.0.0.0/8", "--packets")
	sender := nettest.NewSender(t, there, "there")
	frame := nettest.UDP(netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("192.0.2.1"), size)
	for backend, p := range all {
		t.Run(backend, func(t *testing.T) {
			before := resident(t, p)
			had := hosts(t, p.get("/metrics"))["10.0.0.1"].transmitPackets
			says := []string{
				"",                                   // idle
				"GET /metrics HTTP/1.1\r\nHost: x\r", // a header that does not end
				"\x16\x03\x01\x02\x00\x01",           // TLS that does not go on
				"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nx", // a body that does not
				"GET /-/ready HTTP/1.1\r\nHost: x\r\n\r\n",                             // kept alive
			}
			slowest := time.Duration(0)
			err := here.Do(func() error {
				for i := range clients {
					conn, err := net.Dial("tcp", p.address)
					if err != nil {
						return fmt.Errorf("client %d: %w", i, err)
					}
					defer conn.Close()
					io.WriteString(conn, says[i%len(says)]) // it may have been closed already
					if i%5 == 0 {
						sender.Send(frame)
					}
					if i%1000 == 999 {
						begin := time.Now()
						if _, err := p.try("/metrics"); err != nil {
							return fmt.Errorf("a scrape after %d clients: %w", i, err)
						}
						slowest = max(slowest, time.Since(begin))
						p.client.CloseIdleConnections()
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if slowest > patience {
				t.Errorf("a scrape took %v", slowest)
			}
			eventually(t, func() error {
				if got := hosts(t, p.get("/metrics"))["10.0.0.1"].transmitPackets - had; got != packets {
					return fmt.Errorf("%d packets were counted, want %d", got, packets)
				}
				return nil
			})
			most := resident(t, p)
			t.Logf("a scrape took %v at most; resident at most %d kB before, %d kB since", slowest, before, most)
			if most-before > 256<<10 { // the race detector takes several times what the program does
				t.Errorf("resident memory grew from %d to %d kB", before, most)
			}
		})
	}
}

// TestScrapesBesideClientsThatDoNotRead has clients ask for the page and read nothing. Some stay, the others connect anew again and
// again. The link is a pair of devices: on lo, the page would be in the kernel's buffers at once.
func TestScrapesBesideClientsThatDoNotRead(t *testing.T) {
	const addresses, staying, returning, patience = 5000, 32, 64, 10 * time.Second
	here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
	here.Veth("here", there, "there")
	here.IP("addr", "add", "10.77.0.1/24", "dev", "here")
	there.IP("addr", "add", "10.77.0.2/24", "dev", "there")
	p := start(t, there, inside(t, here, "--metrics-address=10.77.0.1:0", "--interface=here", "--monitor-subnets=10.0.0.0/8")).listening()
	sender := nettest.NewSender(t, there, "there")
	for i := range addresses {
		sender.Send(nettest.UDP(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), netip.MustParseAddr("192.0.2.1"), 100))
	}
	tracked := func(page string) float64 { return sample(t, page, "promflow_tracked_ips") }
	eventually(t, func() error {
		if n := tracked(p.get("/metrics")); n < addresses {
			return fmt.Errorf("%v addresses are on the page", n)
		}
		return nil
	})
	p.client.CloseIdleConnections()

	dialer := net.Dialer{Timeout: deadline, Control: func(_, _ string, c syscall.RawConn) (err error) {
		return errors.Join(c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4096) }), err)
	}}
	ask := func() (conn net.Conn) {
		err := there.Do(func() (err error) { conn, err = dialer.Dial("tcp", p.address); return err })
		if err == nil {
			_, err = io.WriteString(conn, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
		}
		if err != nil {
			t.Error(err)
		}
		return conn
	}
	for range staying {
		if conn := ask(); conn != nil {
			defer conn.Close()
		}
	}
	var clients sync.WaitGroup
	defer clients.Wait()
	stop := make(chan struct{})
	defer close(stop)
	var opened atomic.Int64
	for range returning {
		clients.Go(func() {
			for {
				conn := ask()
				if conn == nil {
					return
				}
				opened.Add(1)
				select {
				case <-time.After(time.Second):
					conn.Close()
				case <-stop:
					conn.Close()
					return
				}
			}
		})
	}
	slowest, scrapes := time.Duration(0), 0
	for ; opened.Load() < 5*returning && !t.Failed(); scrapes++ {
		begin := time.Now()
		page, err := p.try("/metrics")
		if err != nil {
			t.Errorf("after %d scrapes: %v", scrapes, err)
		} else if n := tracked(page); n < addresses {
			t.Errorf("%v addresses are on the page", n)
		}
		slowest = max(slowest, time.Since(begin))
		p.client.CloseIdleConnections()
	}
	t.Logf("%d scrapes, of which the slowest took %v", scrapes, slowest)
	if slowest > patience {
		t.Errorf("a scrape took %v", slowest)
	}
}

var highWater = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)

// resident is the most memory that a program has had so far, in kB.
func resident(t *testing.T, p *program) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	m := highWater.FindSubmatch(status)
	if m == nil {
		t.Fatalf("no VmHWM in %s", status)
	}
	n, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

package app

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"promflow/capture/capturetest"
)

// TestManyClients has thousands of clients connect that ask for nothing, or never to the end, while promflow counts and is scraped.
func TestManyClients(t *testing.T) {
	const clients, packets, size, patience = 10_000, 2000, 100, 10 * time.Second
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	if files.Cur < clients+1000 {
		capturetest.Lacks(t, "a limit of open files of 11,000 (ulimit -n)")
	}
	here, there := capturetest.NewNamespace(t), capturetest.NewNamespace(t)
	here.Veth("here", there, "there")
	all := serveEach(t, here, "--interface=here", "--monitor-subnets=10.0.0.0/8", "--packets")
	sender := capturetest.NewSender(t, there, "there")
	frame := capturetest.UDP(netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("192.0.2.1"), size)
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

// TestConnectionsThatAreAnsweredStay fills a server with clients while one waits for its answer.
func TestConnectionsThatAreAnsweredStay(t *testing.T) {
	c := newConnections(3)
	pipe := func() *connection {
		here, there := net.Pipe()
		t.Cleanup(func() { there.Close() })
		return c.add(here)
	}
	closed := func(one *connection) bool { return one.SetDeadline(time.Time{}) != nil }
	first, second, third := pipe(), pipe(), pipe()
	c.answer(first, 1)
	fourth := pipe()
	if closed(first) || !closed(second) || closed(third) || closed(fourth) {
		t.Error("not the one that was idle for longest was closed")
	}
	c.answer(third, 1)
	c.answer(third, -1)
	fifth := pipe()
	if closed(first) || closed(third) || !closed(fourth) || closed(fifth) {
		t.Error("one was closed that was idle for less than another")
	}
	c.answer(fourth, -1) // which a server says late
	c.answer(first, -1)
	c.remove(first.Conn)
	c.remove(first.Conn)
	if len(c.open) != 2 || c.idle.Len() != 2 {
		t.Errorf("%d are open, %d idle, want 2", len(c.open), c.idle.Len())
	}
	pipe()
	if closed(third) || closed(fifth) {
		t.Error("one was closed though there was room")
	}
}

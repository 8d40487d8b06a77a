package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/ipv4"

	"promflow/.ci/watched"
	"promflow/capture/nettest"
)

// Addresses of the link's ends: that of an exporter, which promflow hears by default, and that of collectors.
const exporterAddress, collectorAddress = "10.255.0.1", "10.255.0.2"

// collect has a tool collect a recording.
func (b *benchmark) collect(t nettest.TB, tool *tool) (m measurement) {
	e := exporters[tool.protocol]
	r := b.recordings[tool.protocol]
	if r == nil {
		r = e.record(b.records)
		b.recordings[tool.protocol] = r
	}
	p := watched.Start(t, b.link, filepath.Join(b.dir, tool.name+".log"), tool.command...)
	t.Cleanup(p.Stop)
	queue := openQueue(t, b.link, e.port)
	p.WaitReady(func() error {
		_, err := queue.waiting()
		return errors.Join(err, tool.ready(p))
	})
	p.Idle()
	m.received = int64(b.records)
	m.counts = new(counts)
	nettest.Check(t, b.link.Sender.Do(func() error { // which has a processor of its own
		conn, err := net.Dial("udp", net.JoinHostPort(collectorAddress, strconv.Itoa(e.port)))
		if err != nil {
			return err
		}
		defer conn.Close()
		before, _ := p.Usage()
		for part := range slices.Chunk(r.datagrams, partRecords/e.perEach) {
			begin := time.Now()
			if err := send(t.Context(), p, conn, queue, tool.queue, part); err != nil {
				return err
			}
			end, cpu := finish(t, p)
			m.took += end.Sub(begin)
			m.cpu = cpu - before
		}
		_, m.memory = p.Usage() // before its answers take any
		return nil
	}))
	nettest.Check(t, p.Alive())
	counted := new(totals)
	m.counts.packets = tool.totals(t, p, counted) / int64(e.packets)
	for host := range flowHosts {
		if counted.sent[host] != r.totals.sent[host] || counted.received[host] != r.totals.received[host] {
			m.wrong++
		}
	}
	return m
}

// partRecords are sent before the tool has to be done with all that it has got. The processes of pmacct have queues of their own between them,
// and do not wait for each other.
const partRecords = 50_000

const burst = 32 // datagrams

// send sends datagrams as fast as the program takes them: a burst whenever fewer bytes than so many wait in the queue of its socket.
func send(ctx context.Context, p *watched.Process, conn net.Conn, queue queue, fewer int64, datagrams [][]byte) error {
	packets := ipv4.NewPacketConn(conn.(net.PacketConn))
	messages := make([]ipv4.Message, burst)
	for len(datagrams) > 0 {
		n := min(burst, len(datagrams))
		for i, d := range datagrams[:n] {
			messages[i].Buffers = [][]byte{d}
		}
		for sent := 0; sent < n; {
			more, err := packets.WriteBatch(messages[sent:n], 0)
			if err != nil {
				return fmt.Errorf("sending flow records: %w", err)
			}
			sent += more
		}
		datagrams = datagrams[n:]
		for {
			waiting, err := queue.waiting()
			if err := errors.Join(err, ctx.Err(), p.Alive()); err != nil {
				return err
			}
			if waiting < fewer {
				break
			}
		}
	}
	return nil
}

// finish waits until the program has nothing to do. It returns since when, and the processor time that the program has used.
func finish(t nettest.TB, p *watched.Process) (since time.Time, cpu time.Duration) {
	const (
		often  = 2 * time.Millisecond
		little = time.Millisecond / 2
		enough = 100 * time.Millisecond
	)
	since = time.Now()
	cpu, _ = p.Usage()
	for now := since; now.Sub(since) < enough; now = time.Now() {
		nettest.Check(t, errors.Join(t.Context().Err(), p.Alive()))
		time.Sleep(often)
		if used, _ := p.Usage(); used-cpu > little {
			since, cpu = time.Now(), used
		}
	}
	return since, cpu
}

// queue is the receive queue of a socket in the receiving namespace.
type queue struct {
	sockets *os.File // /proc/net/udp
	port    string   // in that file
}

func openQueue(t nettest.TB, l *nettest.Link, port int) queue {
	q := queue{port: fmt.Sprintf(":%04X", port)}
	nettest.Check(t, l.Receiver.Do(func() (err error) {
		q.sockets, err = os.Open("/proc/thread-self/net/udp")
		return err
	}))
	t.Cleanup(func() { q.sockets.Close() })
	return q
}

// line returns the fields of the socket's line: sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode
// ref pointer drops.
func (q queue) line() ([]string, error) {
	text, err := io.ReadAll(io.NewSectionReader(q.sockets, 0, 1<<20))
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 13 && strings.HasSuffix(f[1], q.port) {
			return f, nil
		}
	}
	return nil, errors.New("it does not listen")
}

// waiting returns how many bytes wait in the queue.
func (q queue) waiting() (int64, error) {
	line, err := q.line()
	if err != nil {
		return 0, err
	}
	_, waiting, _ := strings.Cut(line[4], ":")
	return strconv.ParseInt(waiting, 16, 64)
}

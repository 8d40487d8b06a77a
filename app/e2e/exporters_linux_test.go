package e2e

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"promflow/capture/nettest"
)

// router is a flow exporter of the test. It sends NetFlow v9 or IPFIX with a template of its own, whose number all of them use.
type router struct {
	addr     netip.Addr
	ipfix    bool
	layout   int // order of the template's fields
	sequence uint32
	uptime   uint32 // ms
	clock    uint32 // Unix seconds
	queue    [][]byte
}

// flowOf is a record.
type flowOf struct {
	source, destination netip.Addr
	bytes, packets      uint32
}

const routerTemplate = 256

// fields returns the template, and what makes a record of it.
func (r *router) fields() (elements []uint16, record func(flowOf) []byte) {
	elements = []uint16{8, 12, 1, 2}
	turn := r.layout % 4
	elements = append(slices.Clone(elements[turn:]), elements[:turn]...)
	if r.layout >= 4 {
		slices.Reverse(elements)
	}
	return elements, func(f flowOf) (all []byte) {
		for _, e := range elements {
			switch e {
			case 8:
				all = append(all, f.source.AsSlice()...)
			case 12:
				all = append(all, f.destination.AsSlice()...)
			case 1:
				all = binary.BigEndian.AppendUint32(all, f.bytes)
			case 2:
				all = binary.BigEndian.AppendUint32(all, f.packets)
			}
		}
		return all
	}
}

// send queues a datagram: the template if asked for, and records.
func (r *router) send(template bool, flows ...flowOf) {
	be := binary.BigEndian
	elements, record := r.fields()
	var sets []byte
	if template {
		id := uint16(0)
		if r.ipfix {
			id = 2
		}
		sets = be.AppendUint16(be.AppendUint16(sets, id), uint16(8+4*len(elements)))
		sets = be.AppendUint16(be.AppendUint16(sets, routerTemplate), uint16(len(elements)))
		for _, e := range elements {
			sets = be.AppendUint16(be.AppendUint16(sets, e), 4)
		}
	}
	if len(flows) > 0 {
		sets = be.AppendUint16(be.AppendUint16(sets, routerTemplate), uint16(4+16*len(flows)))
		for _, f := range flows {
			sets = append(sets, record(f)...)
		}
	}
	var d []byte
	if r.ipfix {
		d = be.AppendUint16(be.AppendUint16(d, 10), uint16(16+len(sets)))
		d = be.AppendUint32(be.AppendUint32(d, r.clock), r.sequence)
		r.sequence += uint32(len(flows))
	} else {
		d = be.AppendUint16(be.AppendUint16(d, 9), uint16(len(flows)))
		d = be.AppendUint32(be.AppendUint32(d, r.uptime), r.clock)
		d = be.AppendUint32(d, r.sequence)
		r.sequence++
	}
	d = be.AppendUint32(d, 0) // the domain of all
	r.queue = append(r.queue, append(d, sets...))
	r.uptime += 100
}

// restart has the router start again: its numbers begin anew, and its template is another one.
func (r *router) restart(layout int) {
	r.sequence, r.uptime, r.clock, r.layout = 0, 1000, r.clock+600, layout
}

// flush sends the queue from a port of its own. shuffle mixes a few neighbours of it.
func (r *router) flush(t *testing.T, ns *nettest.Namespace, to string, shuffle *rand.Rand) {
	t.Helper()
	if shuffle != nil {
		for i := 0; i+3 <= len(r.queue); i += 3 {
			shuffle.Shuffle(3, func(a, b int) { r.queue[i+a], r.queue[i+b] = r.queue[i+b], r.queue[i+a] })
		}
	}
	nettest.Check(t, ns.Do(func() error {
		conn, err := (&net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(netip.AddrPortFrom(r.addr, 4739))}).Dial("udp", to)
		if err != nil {
			return err
		}
		for _, d := range r.queue {
			if _, err := conn.Write(d); err != nil {
				return errors.Join(err, conn.Close())
			}
		}
		r.queue = nil
		return conn.Close()
	}))
}

// TestHundredExporters has them number their templates the same, start again with others from the same port, and send datagrams in the wrong
// order: nothing is lost, and each record counts once. Then one loses something.
func TestHundredExporters(t *testing.T) {
	ns := nettest.NewNamespace(t)
	ns.IP("link", "set", "lo", "up")
	p := serve(t, ns, "--capture=netflow", "--netflow-address=127.0.0.1:2055", "--monitor-subnets=10.0.0.0/8", "--exclude-subnets=", "--packets")
	random := rand.New(rand.NewPCG(1, 2))
	want := map[string]counts{}
	some := func(n int) (all []flowOf) {
		for range n {
			f := flowOf{netip.AddrFrom4([4]byte{10, 0, 0, byte(random.IntN(50))}), netip.AddrFrom4([4]byte{10, 1, byte(random.IntN(4)), byte(random.IntN(200))}), 40 + random.Uint32N(60000), 1 + random.Uint32N(9)}
			s, d := want[f.source.String()], want[f.destination.String()]
			s.transmitBytes, s.transmitPackets = s.transmitBytes+int64(f.bytes), s.transmitPackets+int64(f.packets)
			d.receiveBytes, d.receivePackets = d.receiveBytes+int64(f.bytes), d.receivePackets+int64(f.packets)
			want[f.source.String()], want[f.destination.String()] = s, d
			all = append(all, f)
		}
		return all
	}
	routers := make([]*router, 100)
	for i := range routers {
		routers[i] = &router{addr: netip.AddrFrom4([4]byte{127, 0, 1, byte(i + 1)}), ipfix: i%2 == 1, layout: i % 8, uptime: 1 << 20, clock: uint32(time.Now().Unix()), sequence: random.Uint32()}
	}
	for round := range 3 {
		for i, r := range routers {
			if round > 0 {
				r.restart((i + round) % 8)
			}
			r.send(true)
			for n := range 30 {
				r.send(n%10 == 9, some(1+random.IntN(20))...)
			}
			// IPFIX does not tell of a restart: then data of another layout must not come before the template.
			if round > 0 && r.ipfix {
				first := r.queue[:2]
				r.queue = r.queue[2:]
				rest := r.queue
				r.queue = first
				r.flush(t, ns, "127.0.0.1:2055", nil)
				r.queue = rest
			}
			r.flush(t, ns, "127.0.0.1:2055", random)
		}
	}
	eventually(t, func() error { return same(hosts(t, p.get("/metrics")), want) })
	lossy := []*router{routers[0], routers[1]}
	for _, r := range lossy {
		r.send(false, some(5)...)
		kept := r.queue
		r.send(false, flowOf{r.addr, r.addr, 100, 1}, flowOf{r.addr, r.addr, 100, 1}, flowOf{r.addr, r.addr, 100, 1}) // lost
		r.queue = kept[:1:1]
		r.send(false, some(5)...)
		r.flush(t, ns, "127.0.0.1:2055", nil)
	}
	eventually(t, func() error {
		page := p.get("/metrics")
		for i, lost := range []int{1, 3} { // a datagram of NetFlow v9, three records of IPFIX
			if line := fmt.Sprintf(`promflow_capture_dropped_packets_total{interface="%v"} %d`, lossy[i].addr, lost); !strings.Contains(page, line+"\n") {
				return fmt.Errorf("the page does not have %s", line)
			}
		}
		return same(hosts(t, page), want)
	})
	// All that is missing of what came before is lost by now.
	page := p.get("/metrics")
	for _, r := range routers {
		dropped := map[*router]int{lossy[0]: 1, lossy[1]: 3}[r]
		for _, line := range []string{
			fmt.Sprintf(`promflow_capture_up{backend="netflow",interface="%v"} 1`, r.addr),
			fmt.Sprintf(`promflow_capture_dropped_packets_total{interface="%v"} %d`, r.addr, dropped),
			fmt.Sprintf(`promflow_capture_records_total{interface="%v",outcome="malformed"} 0`, r.addr),
			fmt.Sprintf(`promflow_capture_records_total{interface="%v",outcome="no_template"} 0`, r.addr),
		} {
			if !strings.Contains(page, line+"\n") {
				t.Errorf("the page does not have %s", line)
			}
		}
	}
	p.terminate()
}

// TestRefusedExporters has a flood of random datagrams from an address that may not send: nothing on the page changes but their number.
func TestRefusedExporters(t *testing.T) {
	ns := nettest.NewNamespace(t)
	ns.IP("link", "set", "lo", "up")
	p := serve(t, ns, "--capture=netflow", "--netflow-address=127.0.0.1:2055", "--monitor-subnets=0.0.0.0/0", "--flow-exporters=127.0.1.0/24")
	good := &router{addr: netip.MustParseAddr("127.0.1.1"), clock: uint32(time.Now().Unix())}
	bad := &router{addr: netip.MustParseAddr("127.0.2.1"), clock: good.clock}
	flow := flowOf{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), 1000, 1}
	good.send(true, flow)
	good.flush(t, ns, "127.0.0.1:2055", nil)
	eventually(t, func() error {
		return same(hosts(t, p.get("/metrics")), map[string]counts{"10.0.0.1": {transmitBytes: 1000}, "10.0.0.2": {receiveBytes: 1000}})
	})
	// What the process does by itself is another matter.
	own := regexp.MustCompile(`(?m)^(go|process|promhttp|promflow_scrape)_.*\n`)
	before := own.ReplaceAllString(p.get("/metrics"), "")
	logged := p.log.String()
	const datagrams = 10000
	sent := 0
	random := rand.New(rand.NewPCG(3, 4))
	for range datagrams / 2 {
		noise := make([]byte, random.IntN(1400))
		for i := range noise {
			noise[i] = byte(random.Uint32())
		}
		bad.queue = append(bad.queue, noise)
		bad.send(true, flow)
		if sent += 2; len(bad.queue) == 100 { // a small receive buffer has room for these
			bad.flush(t, ns, "127.0.0.1:2055", nil)
			eventually(t, func() error {
				if line := fmt.Sprintf("refused_datagrams_total{interface=\"127.0.0.1:2055\"} %d\n", sent); !strings.Contains(p.get("/metrics"), line) {
					return errors.New("the page does not have " + line)
				}
				return nil
			})
		}
	}
	zero, all := `refused_datagrams_total{interface="127.0.0.1:2055"} 0`, fmt.Sprintf(`refused_datagrams_total{interface="127.0.0.1:2055"} %d`, datagrams)
	if !strings.Contains(before, zero+"\n") {
		t.Errorf("the page does not have %s", zero)
	}
	want := strings.Replace(before, zero, all, 1)
	eventually(t, func() error {
		if got := own.ReplaceAllString(p.get("/metrics"), ""); got != want {
			return fmt.Errorf("the page is\n%s\nwant\n%s", got, want)
		}
		return nil
	})
	if now := p.log.String(); now != logged {
		t.Errorf("the log has more: %s", strings.TrimPrefix(now, logged))
	}
	p.terminate()
}

// TestFlowSettings has settings that contradict each other.
func TestFlowSettings(t *testing.T) {
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"--capture=netflow", "--interface=lo"}, `--interface "lo": --capture=netflow has no interface`},
		{[]string{"--capture=sflow", "--monitor-subnets=auto"}, `--monitor-subnets "auto": auto stands for the subnets of interfaces`},
		{[]string{"--capture=netflow", "--netflow-address=router:2055"}, `--netflow-address "router:2055": expected an IP address and a port`},
		{[]string{"--capture=netflow", "--flow-exporters=10.0.0.0/33"}, `--flow-exporters "10.0.0.0/33": "10.0.0.0/33": expected prefixes and addresses`},
		{[]string{"--capture=netflow", "--flow-exporters=,"}, `expected at least one prefix`},
		{[]string{"--capture=netflow", "--flow-direction=in"}, `--flow-direction "in": expected one of ingress, egress, both`},
		{[]string{"--capture=netflow", "--sampling-rate=0"}, `--sampling-rate "0": expected a whole number from 1`},
		{[]string{"--capture=netflow,ebpf"}, `--capture "netflow,ebpf": expected one of auto, `},
	} {
		if line, _ := fails(t, promflow(t, append([]string{"--metrics-address=127.0.0.1:0"}, c.args...)...)); !strings.Contains(line, c.says) {
			t.Errorf("%q: said %q, want %q", c.args, line, c.says)
		}
	}
	busy, err := net.ListenPacket("udp", "127.0.0.1:0")
	nettest.Check(t, err)
	defer busy.Close()
	address := busy.LocalAddr().String()
	if line, _ := fails(t, promflow(t, "--metrics-address=127.0.0.1:0", "--capture=sflow", "--sflow-address="+address)); !strings.Contains(line, address) || !strings.Contains(line, "is another collector running?") {
		t.Errorf("on a busy address it said %q", line)
	}
}

// TestCheckOfExporters has check say who sends, and what.
func TestCheckOfExporters(t *testing.T) {
	ns := nettest.NewNamespace(t)
	ns.IP("link", "set", "lo", "up")
	r := &router{addr: netip.MustParseAddr("127.0.1.1"), clock: uint32(time.Now().Add(-time.Hour).Unix())}
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			case <-time.After(100 * time.Millisecond):
				r.send(true, flowOf{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), 1000, 1})
				_ = ns.Do(func() error { // refused while nobody listens
					conn, err := (&net.Dialer{LocalAddr: &net.UDPAddr{IP: r.addr.AsSlice()}}).Dial("udp", "127.0.0.1:2055")
					if err != nil {
						return err
					}
					_, err = conn.Write(r.queue[0])
					return errors.Join(err, conn.Close())
				})
				r.queue = nil
			}
		}
	}()
	out, err := inside(t, ns, "check", "--capture=netflow", "--netflow-address=127.0.0.1:2055", "--monitor-subnets=10.0.0.0/8", "--metrics-address=127.0.0.1:0", "--duration=2s").Output()
	close(stop)
	<-done
	nettest.Check(t, err)
	for _, want := range []string{"1 exporter sends to 127.0.0.1:2055", "exporter 127.0.1.1", "NetFlow v9, ", "template", "of monitored addresses", "its clock is 1h", "behind"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("check does not say %q:\n%s", want, out)
		}
	}
}

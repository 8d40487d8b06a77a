package capture

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"

	"promflow/capture/frame"
	"promflow/capture/subnets"
)

// talk is a decoded packet of one frame.
func talk(source, destination string, bytes int64) frame.Packet {
	return frame.Packet{
		Source: netip.MustParseAddr(source), Destination: netip.MustParseAddr(destination),
		Bytes: bytes, Packets: 1, Outcome: frame.Counted,
	}
}

func count(c *Counter, packets ...frame.Packet) {
	c.Lock()
	defer c.Unlock()
	for i := range packets {
		c.Count(&packets[i])
	}
}

// byAddr is a snapshot of the table by address, "other" for what did not fit.
func byAddr(t *Table) map[string]Totals {
	m := map[string]Totals{}
	for _, h := range t.Snapshot().Hosts {
		name := "other"
		if h.Addr.IsValid() {
			name = h.Addr.String()
		}
		m[name] = h.Totals
	}
	return m
}

func sum(hosts []Host) (s Totals) {
	for _, h := range hosts {
		s.ReceiveBytes += h.ReceiveBytes
		s.TransmitBytes += h.TransmitBytes
		s.ReceivePackets += h.ReceivePackets
		s.TransmitPackets += h.TransmitPackets
	}
	return s
}

func TestCounterCountsTheMonitoredEnds(t *testing.T) {
	const monitored, excluded = "10.0.0.0/8,fd00::/8", "10.9.0.0/16,255.255.255.250/32,fd00:9::/32"
	sent := func(n int64) Totals { return Totals{TransmitBytes: n, TransmitPackets: 1} }
	received := func(n int64) Totals { return Totals{ReceiveBytes: n, ReceivePackets: 1} }
	merged := talk("10.0.0.1", "192.0.2.1", 65_000)
	merged.Packets = 44

	for _, c := range []struct {
		name    string
		packet  frame.Packet
		outcome frame.Outcome
		want    map[string]Totals
	}{
		{"both ends", talk("10.0.0.1", "10.0.0.2", 100), frame.Counted, map[string]Totals{"10.0.0.1": sent(100), "10.0.0.2": received(100)}},
		{"source", talk("10.0.0.1", "192.0.2.1", 100), frame.Counted, map[string]Totals{"10.0.0.1": sent(100)}},
		{"destination", talk("192.0.2.1", "10.0.0.1", 100), frame.Counted, map[string]Totals{"10.0.0.1": received(100)}},
		{"neither", talk("192.0.2.1", "192.0.2.2", 100), frame.Unmonitored, map[string]Totals{}},
		{"IPv6", talk("fd00::1", "fd00::2", 100), frame.Counted, map[string]Totals{"fd00::1": sent(100), "fd00::2": received(100)}},
		{"IPv6, neither", talk("2001:db8::1", "2001:db8::2", 100), frame.Unmonitored, map[string]Totals{}},
		{"to itself", talk("10.0.0.1", "10.0.0.1", 100), frame.Counted, map[string]Totals{"10.0.0.1": {100, 100, 1, 1}}},
		{"excluded source", talk("10.9.0.1", "10.0.0.2", 100), frame.Excluded, map[string]Totals{}},
		{"excluded destination", talk("10.0.0.1", "255.255.255.250", 100), frame.Excluded, map[string]Totals{}},
		{"excluded IPv6 destination", talk("fd00::1", "fd00:9::1", 100), frame.Excluded, map[string]Totals{}},
		{"both excluded", talk("10.9.0.1", "10.9.0.2", 100), frame.Excluded, map[string]Totals{}},
		{"excluded beats unmonitored", talk("192.0.2.1", "255.255.255.250", 100), frame.Excluded, map[string]Totals{}},
		{"mapped IPv4 is not IPv4", talk("::ffff:10.0.0.1", "::ffff:10.9.0.1", 100), frame.Unmonitored, map[string]Totals{}},
		{"merged segments", merged, frame.Counted, map[string]Totals{"10.0.0.1": {TransmitBytes: 65_000, TransmitPackets: 44}}},
		{"not IP", frame.Packet{Bytes: 60, Packets: 1, Outcome: frame.NonIP}, frame.NonIP, map[string]Totals{}},
		{"malformed", frame.Packet{Bytes: 60, Packets: 1, Outcome: frame.Malformed}, frame.Malformed, map[string]Totals{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			table := NewTable(10, 0)
			counter := NewCounter(table.Monitor(Subnets{Monitored: parseSubnets(t, monitored), Excluded: parseSubnets(t, excluded)}))
			count(counter, c.packet)
			var outcomes [frame.Outcomes]OutcomeSize
			outcomes[c.outcome] = OutcomeSize{c.packet.Packets, c.packet.Bytes}
			if got := counter.Outcomes(); got != outcomes {
				t.Errorf("outcomes: got %v, want %v", got, outcomes)
			}
			if got := byAddr(table); fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("table: got %v, want %v", got, c.want)
			}
		})
	}
}

func TestCounterWithoutSubnetsCountsNothing(t *testing.T) {
	table := NewTable(10, 0)
	counter := NewCounter(table)
	count(counter, talk("10.0.0.1", "10.0.0.2", 100))
	if got := counter.Outcomes()[frame.Unmonitored]; got != (OutcomeSize{1, 100}) {
		t.Error("unmonitored:", got)
	}
	if got := table.Snapshot().Hosts; len(got) != 0 {
		t.Error("table:", got)
	}
}

func TestCountersOfOneTableKeepTheirOwnOutcomes(t *testing.T) {
	table := NewTable(10, 0)
	a, b := NewCounter(table.Monitor(Subnets{Monitored: parseSubnets(t, "10.0.0.0/8")})), NewCounter(table.Monitor(Subnets{Monitored: parseSubnets(t, "10.0.0.0/8")}))
	count(a, talk("10.0.0.1", "192.0.2.1", 100))
	count(b, talk("10.0.0.1", "192.0.2.1", 10), talk("10.0.0.1", "192.0.2.1", 1))
	if got, want := byAddr(table)["10.0.0.1"], (Totals{TransmitBytes: 111, TransmitPackets: 3}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if a, b := a.Outcomes()[frame.Counted], b.Outcomes()[frame.Counted]; a != (OutcomeSize{1, 100}) || b != (OutcomeSize{2, 11}) {
		t.Error("got", a, "and", b)
	}
}

// Writers count batches of packets, some of them more addresses than the table has room for, while readers look: at every
// instant, what was sent and what was received are the same, and in the end nothing is lost.
func TestNothingIsLostBetweenWritersAndReaders(t *testing.T) {
	const writers, readers, batches, batch = 4, 2, 200, 50
	table := NewTable(300, 0)
	all := parseSubnets(t, "10.0.0.0/8,fd00::/8")
	var writing, reading sync.WaitGroup
	var done atomic.Bool
	var counted [writers]Totals
	counters := make([]*Counter, writers)
	for w := range writers {
		counters[w] = NewCounter(table.Monitor(Subnets{Monitored: all}))
		writing.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(w)))
			addr := func(version int) netip.Addr {
				n := random.IntN(250)
				if version == 4 {
					return netip.AddrFrom4([4]byte{10, 0, byte(n / 256), byte(n)})
				}
				return netip.AddrFrom16([16]byte{0: 0xfd, 14: byte(n / 256), 15: byte(n)})
			}
			packets := make([]frame.Packet, batch)
			for range batches {
				for i := range packets {
					version := 4 + 2*random.IntN(2)
					packets[i] = frame.Packet{Source: addr(version), Destination: addr(version), Bytes: random.Int64N(1500),
						Packets: 1 + random.Int64N(3), Outcome: frame.Counted}
					counted[w].ReceiveBytes += packets[i].Bytes
					counted[w].ReceivePackets += packets[i].Packets
				}
				count(counters[w], packets...)
			}
		})
	}
	for range readers {
		reading.Go(func() {
			var before Totals
			for last := false; !last; {
				last = done.Load() // one more look after the end
				hosts := table.Snapshot().Hosts
				now := sum(hosts)
				if now.ReceiveBytes != now.TransmitBytes || now.ReceivePackets != now.TransmitPackets {
					t.Errorf("half a packet: %+v", now)
				}
				if now.ReceiveBytes < before.ReceiveBytes || now.ReceivePackets < before.ReceivePackets {
					t.Errorf("%+v went back to %+v", before, now)
				}
				before = now
				for _, c := range counters {
					c.Outcomes()
				}
			}
		})
	}
	writing.Wait()
	done.Store(true)
	reading.Wait()

	var want Totals
	for w, c := range counted {
		want.ReceiveBytes += c.ReceiveBytes
		want.ReceivePackets += c.ReceivePackets
		if got := counters[w].Outcomes()[frame.Counted]; got != (OutcomeSize{c.ReceivePackets, c.ReceiveBytes}) {
			t.Errorf("counter %d: got %v, want %v", w, got, c)
		}
	}
	want.TransmitBytes, want.TransmitPackets = want.ReceiveBytes, want.ReceivePackets
	hosts := table.Snapshot().Hosts
	if got := sum(hosts); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if len(hosts) != 301 || hosts[300].Addr.IsValid() {
		t.Errorf("got %d hosts, want 300 and the rest", len(hosts))
	}
}

func TestCountDoesNotAllocateForKnownAddresses(t *testing.T) {
	table := NewTable(1, 0)
	counter := NewCounter(table.Monitor(Subnets{Monitored: parseSubnets(t, "10.0.0.0/8"), Excluded: parseSubnets(t, "10.9.0.0/16,fd00::/8")}))
	packets := []frame.Packet{
		talk("10.0.0.1", "10.0.0.1", 100), talk("10.0.0.1", "10.0.0.2", 100), talk("10.0.0.2", "10.0.0.1", 100), // one beyond the limit
		talk("10.9.0.1", "10.0.0.2", 100), talk("192.0.2.1", "192.0.2.2", 100), talk("fe80::1", "fe80::2", 100),
		{Bytes: 60, Packets: 1, Outcome: frame.NonIP},
	}
	if n := testing.AllocsPerRun(100, func() {
		counter.Lock()
		for i := range packets {
			counter.Count(&packets[i])
		}
		counter.Unlock()
	}); n != 0 {
		t.Error(n, "allocations")
	}
}

// floodFrames are small frames from hosts of 10.0.0.0/8 or fd00::/8 to each other, in random order.
func floodFrames(version, hosts int) []frame.Frame {
	random := rand.New(rand.NewPCG(1, 2))
	order := random.Perm(hosts)
	frames := make([]frame.Frame, hosts)
	for i, n := range order {
		d, peer := make([]byte, 60), order[(i+hosts/2)%hosts]
		if version == 4 {
			d[12], d[14], d[17] = 0x08, 0x45, 46
			binary.BigEndian.PutUint32(d[26:], uint32(10<<24+n))
			binary.BigEndian.PutUint32(d[30:], uint32(10<<24+peer))
		} else {
			d[12], d[13], d[14], d[19] = 0x86, 0xdd, 0x60, 6
			d[22], d[38] = 0xfd, 0xfd
			binary.BigEndian.PutUint32(d[34:], uint32(n))
			binary.BigEndian.PutUint32(d[50:], uint32(peer))
		}
		frames[i] = frame.Frame{Link: frame.LinkEthernet, Data: d, Wire: 60}
	}
	return frames
}

// BenchmarkCount decodes and counts packets with both ends monitored, a batch of 64 under one lock.
func BenchmarkCount(b *testing.B) {
	const batch = 64
	flood := func(table *Table, frames []frame.Frame, more func() bool) {
		c := NewCounter(table.Monitor(Subnets{Monitored: parseSubnets(b, "10.0.0.0/8,fd00::/8"), Excluded: parseSubnets(b, "255.255.255.250/32")}))
		var p frame.Packet
		c.Lock()
		defer c.Unlock()
		for i, n := 0, 0; more(); n++ {
			if n%batch == 0 {
				c.Unlock()
				c.Lock()
			}
			p.Decode(&frames[i])
			c.Count(&p)
			if i++; i == len(frames) {
				i = 0
			}
		}
	}
	for _, c := range []struct{ version, hosts int }{{4, 254}, {4, 65536}, {6, 254}, {6, 65536}} {
		frames := floodFrames(c.version, c.hosts)
		name := fmt.Sprintf("ipv%d/hosts=%d/writers=", c.version, c.hosts)
		b.Run(name+"1", func(b *testing.B) {
			b.ReportAllocs()
			flood(NewTable(c.hosts, 0), frames, b.Loop)
		})
		b.Run(name+"max", func(b *testing.B) {
			table := NewTable(c.hosts, 0)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) { flood(table, frames, pb.Next) })
		})
	}
}

func parseSubnets(t testing.TB, list string) subnets.Set {
	t.Helper()
	s, err := subnets.Parse(list)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

package flow

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"promflow/capture"
	"promflow/capture/frame"
	"promflow/capture/labels"
	"promflow/capture/subnets"
)

// list is a decoder of the test: it sends the records that the test has for a datagram.
type list map[byte][]Record

func (l list) Decode(d Datagram, to Sink) bool {
	for i := range l[d.Data[0]] {
		to.Record(&l[d.Data[0]][i])
	}
	if d.Data[0] == 'l' {
		to.Lost(3)
		to.NoTemplate(2)
		to.Clock(-time.Minute)
	}
	return d.Data[0] != 'x'
}

func (l list) Tick(time.Time, Sink) {}
func (l list) Describe() string     { return "a list" }
func (l list) Close()               {}

func prefixes(all ...string) (s subnets.Set) {
	for _, p := range all {
		s = s.With("", netip.MustParsePrefix(p))
	}
	return s
}

func newCollector(t testing.TB, records list, grouping *labels.Grouping, change func(*Config)) *Collector {
	t.Helper()
	table := capture.NewTable(100, 0)
	if grouping != nil {
		table = capture.NewGroupedTable(100, 0, grouping, 1000)
	}
	table.Monitor(capture.Subnets{Monitored: prefixes("10.0.0.0/8", "fd00::/8"), Excluded: prefixes("10.9.0.0/16")})
	config := Config{
		Protocol: &Protocol{Name: "list", New: func(*Limits) Decoder { return records }}, Address: "127.0.0.1:0",
		Exporters: prefixes("192.0.2.0/24", "127.0.0.0/8", "2001:db8::/32"), Direction: Ingress, Table: table, Log: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&config)
	}
	c, err := Open(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// receive has datagrams of a byte come from an exporter.
func (c *Collector) receive(from string, at time.Time, datagrams string) (refused int) {
	b := &batch{of: c, at: at}
	for _, d := range []byte(datagrams) {
		if !c.take(b, []byte{d}, netip.AddrPortFrom(netip.MustParseAddr(from), 999)) {
			refused++
		}
	}
	b.count()
	return refused
}

// totals returns the totals of all addresses as text.
func totals(table *capture.Table) (all []string) {
	s := table.Snapshot()
	for _, h := range s.Hosts {
		all = append(all, fmt.Sprintf("%v %d/%d %d/%d", h.Addr, h.ReceiveBytes, h.TransmitBytes, h.ReceivePackets, h.TransmitPackets))
	}
	slices.Sort(all)
	return all
}

func record(source, destination string, bytes, packets int64, change func(*Record)) Record {
	r := Record{Packet: frame.Packet{
		Source: netip.MustParseAddr(source), Destination: netip.MustParseAddr(destination), Bytes: bytes, Packets: packets, Outcome: frame.Counted,
	}}
	if change != nil {
		change(&r)
	}
	return r
}

// TestCount has one record each, and what of it is counted.
func TestCount(t *testing.T) {
	const a, b, away = "10.0.0.1", "10.0.0.2", "198.51.100.1"
	for _, c := range []struct {
		name    string
		record  Record
		change  func(*Config)
		totals  string
		outcome frame.Outcome // frame.Outcomes: it is of the other direction
	}{
		{"both ends", record(a, b, 100, 2, nil), nil, "10.0.0.1 0/100 0/2, 10.0.0.2 100/0 2/0", frame.Counted},
		{"one end", record(away, b, 100, 2, nil), nil, "10.0.0.2 100/0 2/0", frame.Counted},
		{"neither end", record(away, away, 100, 2, nil), nil, "", frame.Unmonitored},
		{"excluded", record(a, "10.9.0.1", 100, 2, nil), nil, "", frame.Excluded},
		{"IPv6", record("fd00::1", "2001:db8::1", 100, 2, nil), nil, "fd00::1 0/100 0/2", frame.Counted},
		{"no IP", Record{Packet: frame.Packet{Bytes: 100, Packets: 2, Outcome: frame.NonIP}}, nil, "", frame.NonIP},
		{"malformed", malformed, nil, "", frame.Malformed},
		{"both directions", record(a, b, 100, 2, func(r *Record) { r.ReverseBytes, r.ReversePackets = 50, 1 }), nil, "10.0.0.1 50/100 1/2, 10.0.0.2 100/50 2/1", frame.Counted},
		{"ingress", record(a, away, 100, 2, func(r *Record) { r.Direction = Ingress }), nil, "10.0.0.1 0/100 0/2", frame.Counted},
		{"egress", record(a, away, 100, 2, func(r *Record) { r.Direction = Egress }), nil, "", frame.Outcomes},
		{"ingress, where egress counts", record(a, away, 100, 2, func(r *Record) { r.Direction = Ingress }), func(c *Config) { c.Direction = Egress }, "", frame.Outcomes},
		{"egress, where both count", record(a, away, 100, 2, func(r *Record) { r.Direction = Egress }), func(c *Config) { c.Direction = Unknown }, "10.0.0.1 0/100 0/2", frame.Counted},
		{"sampled", record(a, away, 100, 2, func(r *Record) { r.Rate = 10 }), nil, "10.0.0.1 0/1000 0/20", frame.Counted},
		{"sampled, both directions", record(a, away, 100, 2, func(r *Record) { r.Rate, r.ReverseBytes, r.ReversePackets = 10, 50, 1 }), nil, "10.0.0.1 500/1000 10/20", frame.Counted},
		{"sampled, and another rate is set", record(a, away, 100, 2, func(r *Record) { r.Rate = 10 }), func(c *Config) { c.Rate = 7 }, "10.0.0.1 0/700 0/14", frame.Counted},
		{"sampled, and multiplied by 1", record(a, away, 100, 2, func(r *Record) { r.Rate = 10 }), func(c *Config) { c.Rate = 1 }, "10.0.0.1 0/100 0/2", frame.Counted},
		{"too large once multiplied", record(a, away, math.MaxInt64/3, 2, func(r *Record) { r.Rate = 4 }), nil, "", frame.Malformed},
		{"as large as can be", record(a, away, 1<<48, 2, func(r *Record) { r.Rate = 4 }), nil, fmt.Sprintf("10.0.0.1 0/%d 0/8", int64(1)<<50), frame.Counted},
		{"larger than can be", record(a, away, 1<<48+1, 2, func(r *Record) { r.Rate = 4 }), nil, "", frame.Malformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			collector := newCollector(t, list{'r': {c.record}}, nil, c.change)
			collector.receive("192.0.2.1", time.Now(), "r")
			if got := strings.Join(totals(collector.Table), ", "); got != c.totals {
				t.Errorf("the totals are %q, want %q", got, c.totals)
			}
			s := collector.Statuses()[1]
			var outcomes [frame.Outcomes]int64
			if c.outcome != frame.Outcomes {
				outcomes[c.outcome] = 1
			}
			if s.Records != outcomes || s.OtherWay != 1-sum(outcomes[:]) {
				t.Errorf("the records are %v and %d of the other direction, want %v", s.Records, s.OtherWay, outcomes)
			}
		})
	}
}

func sum(all []int64) (total int64) {
	for _, n := range all {
		total += n
	}
	return total
}

// TestExporters has several exporters, and some that may not send.
func TestExporters(t *testing.T) {
	c := newCollector(t, list{'a': {record("10.0.0.1", "10.0.0.2", 100, 1, nil)}}, nil, nil)
	now := time.Now()
	for _, step := range []struct {
		from, datagrams string
		refused         int
	}{
		{"192.0.2.1", "aal", 0}, {"192.0.2.2", "ax", 0}, {"2001:db8::1", "a", 0},
		{"198.51.100.1", "aaa", 3}, {"2001:db9::1", "a", 1},
	} {
		if refused := c.receive(step.from, now, step.datagrams); refused != step.refused {
			t.Errorf("of %s %d are refused, want %d", step.from, refused, step.refused)
		}
	}
	var got []string
	for _, s := range c.Statuses()[1:] {
		got = append(got, fmt.Sprintf("%s counted %d malformed %d bytes %d dropped %d no template %d %v %s %v",
			s.Exporter, s.Records[frame.Counted], s.Records[frame.Malformed], s.Outcomes[frame.Counted].Bytes, s.Dropped, s.NoTemplate, s.Up, s.Sends, s.Clock))
	}
	want := []string{
		"192.0.2.1 counted 2 malformed 0 bytes 200 dropped 5 no template 2 true a list -1m0s",
		"192.0.2.2 counted 1 malformed 1 bytes 100 dropped 0 no template 0 true a list 0s",
		"2001:db8::1 counted 1 malformed 0 bytes 100 dropped 0 no template 0 true a list 0s",
	}
	if !slices.Equal(got, want) {
		t.Errorf("the exporters are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestUp has an exporter that sends at intervals, and how long it may be silent.
func TestUp(t *testing.T) {
	for _, c := range []struct {
		name   string
		pauses []time.Duration
		up     time.Duration
	}{
		{"one report", nil, patience},
		{"each second", []time.Duration{time.Second, time.Second}, patience},
		{"each minute", []time.Duration{time.Minute, time.Minute}, 3 * time.Minute},
		{"several datagrams each 5 minutes", []time.Duration{0, 0, 5 * time.Minute, 0, 0, 5 * time.Minute, 2 * time.Second, 0}, 15 * time.Minute},
		{"away for a day", []time.Duration{time.Minute, time.Minute, 24 * time.Hour}, 3 * time.Minute},
		{"each day", []time.Duration{24 * time.Hour, 24 * time.Hour}, 3 * time.Hour},
	} {
		t.Run(c.name, func(t *testing.T) {
			var e exporter
			now := time.Unix(1_800_000_000, 0)
			e.hear(now)
			for _, p := range c.pauses {
				now = now.Add(p)
				e.hear(now)
			}
			if !e.isUp(now.Add(c.up)) || e.isUp(now.Add(c.up+1)) {
				t.Errorf("it is up after %v: %t; just after that: %t", c.up, e.isUp(now.Add(c.up)), e.isUp(now.Add(c.up+1)))
			}
		})
	}
}

// TestRoomForExporters fills the room, and has one more come before and after one has been silent for long.
func TestRoomForExporters(t *testing.T) {
	c := newCollector(t, list{'a': {record("10.0.0.1", "10.0.0.2", 100, 1, nil)}}, nil, func(c *Config) { c.Exporters = prefixes("0.0.0.0/0") })
	now := time.Now()
	for i := range uint32(mostExporters) {
		var a [4]byte
		binary.BigEndian.PutUint32(a[:], 0x0b000000+i)
		c.receive(netip.AddrFrom4(a).String(), now.Add(time.Duration(i)), "a")
	}
	if c.receive("192.0.2.1", now.Add(silentFor-1), "a") != 1 {
		t.Error("there is room for too many exporters")
	}
	if c.receive("192.0.2.1", now.Add(silentFor), "a") != 0 {
		t.Error("there is no room although an exporter has been silent for long")
	}
	all := c.Statuses()
	if len(all) != 1+mostExporters+1 {
		t.Fatalf("there are %d statuses", len(all))
	}
	if gone := all[len(all)-1]; gone.Exporter != Gone || gone.Records[frame.Counted] != 1 || all[1].Exporter != "11.0.0.1" {
		t.Errorf("%+v is gone, %s is the first", gone, all[1].Exporter)
	}
	var counted int64
	for _, s := range all {
		counted += s.Outcomes[frame.Counted].Bytes
	}
	if counted != 100*(mostExporters+1) {
		t.Errorf("%d bytes are counted", counted)
	}
}

// TestInterfaceLabel names the interface by the exporter and its index.
func TestInterfaceLabel(t *testing.T) {
	g := labels.New(labels.Set(0).With(labels.Interface), labels.HostBits{}, false)
	in := func(index uint32) Record {
		return record("10.0.0.1", "198.51.100.1", 100, 1, func(r *Record) { r.Input = index })
	}
	c := newCollector(t, list{'a': {in(7), in(7), in(70000)}}, g, nil)
	c.receive("192.0.2.1", time.Now(), "aa")
	c.receive("2001:db8::1", time.Now(), "a")
	s := c.Table.Snapshot()
	var got []string
	for at, series := range s.Series() {
		got = append(got, fmt.Sprintf("%v %s %d", s.Hosts[at].Addr, g.Texts(s.Hosts[at].Addr, series.Labels)[0].Value, series.TransmitBytes))
	}
	slices.Sort(got)
	want := []string{"10.0.0.1 192.0.2.1:7 400", "10.0.0.1 192.0.2.1:70000 200", "10.0.0.1 [2001:db8::1]:7 200", "10.0.0.1 [2001:db8::1]:70000 100"}
	if !slices.Equal(got, want) {
		t.Errorf("the series are %q, want %q", got, want)
	}
}

// TestRun sends datagrams to the socket and ends at once: all of them count.
func TestRun(t *testing.T) {
	c := newCollector(t, list{'a': {record("10.0.0.1", "10.0.0.2", 100, 1, nil)}}, nil, nil)
	conn, err := net.Dial("udp", c.Address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- c.Run(ctx) }()
	const datagrams = 1000
	for range datagrams {
		if _, err := conn.Write([]byte{'a'}); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	all := c.Statuses()
	if got := all[1].Records[frame.Counted]; got != datagrams || all[0].Dropped != 0 {
		t.Errorf("%d records are counted and %d datagrams dropped, want %d and 0", got, all[0].Dropped, datagrams)
	}
	if got := totals(c.Table); len(got) != 2 || got[0] != fmt.Sprintf("10.0.0.1 0/%d 0/%d", 100*datagrams, datagrams) {
		t.Errorf("the totals are %q", got)
	}
}

// TestIPv4OfADualStackSocket has an exporter with an IPv4 address send to a socket of both families.
func TestIPv4OfADualStackSocket(t *testing.T) {
	c := newCollector(t, list{'a': {record("10.0.0.1", "10.0.0.2", 100, 1, nil)}}, nil, func(c *Config) { c.Address = ":0" })
	_, port, err := net.SplitHostPort(c.Address)
	if err != nil || port == "0" {
		t.Fatalf("the address is %q, want one with the real port", c.Address)
	}
	conn, err := net.Dial("udp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte{'a'}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Run(ctx); err != nil {
		t.Error(err)
	}
	if all := c.Statuses(); len(all) != 2 || all[1].Exporter != "127.0.0.1" || all[1].Records[frame.Counted] != 1 {
		t.Errorf("the statuses are %+v", all)
	}
}

// TestEndUnderLoad ends while datagrams go on to come.
func TestEndUnderLoad(t *testing.T) {
	c := newCollector(t, list{'a': {record("10.0.0.1", "10.0.0.2", 100, 1, nil)}}, nil, nil)
	conn, err := net.Dial("udp", c.Address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- c.Run(ctx) }()
	cancel()
	for {
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
			return
		default:
			for range 100 {
				if _, err := conn.Write([]byte{'a'}); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// TestGarbageMakesNoExporter has somebody send malformed datagrams in the names of others: they do not take the places of exporters.
func TestGarbageMakesNoExporter(t *testing.T) {
	c := newCollector(t, list{'x': {record("10.0.0.1", "10.0.0.2", 100, 1, nil)}, 'a': {record("10.0.0.1", "10.0.0.2", 100, 1, nil)}}, nil, nil)
	for i := range 200 {
		c.receive(fmt.Sprintf("192.0.2.%d", i), time.Now(), "xx")
	}
	c.receive("192.0.2.7", time.Now(), "xax")
	all := c.Statuses()
	if len(all) != 2 || all[0].Records[frame.Malformed] != 401 || all[1].Records[frame.Malformed] != 1 || all[1].Records[frame.Counted] != 2 {
		t.Errorf("the statuses are %+v", all)
	}
	if got := totals(c.Table); got[0] != "10.0.0.1 0/200 0/2" {
		t.Errorf("the totals are %q", got)
	}
}

// TestSumsDoNotOverflow has exporters send records as large as can be. What one cannot have counted is malformed, and does no harm to others.
func TestSumsDoNotOverflow(t *testing.T) {
	large := make([]Record, 5000)
	for i := range large {
		large[i] = record("10.0.0.1", "10.0.0.2", mostOfRecord, mostOfRecord, nil)
	}
	c := newCollector(t, list{'a': large, 'b': {record("10.0.0.1", "10.0.0.2", 100, 1, nil)}}, nil, nil)
	now := time.Now()
	c.receive("192.0.2.1", now, "a")
	c.receive("192.0.2.2", now, "b")
	all := c.Statuses()
	if one, other := all[1].Records, all[2].Records; one[frame.Counted] != 4 || one[frame.Malformed] != 4996 || other[frame.Counted] != 1 {
		t.Errorf("of the large records %v are counted, of the other's %v", one, other)
	}
	later := now.Add(1 << 18 * time.Second)
	c.receive("192.0.2.1", later, "aa")
	c.receive("192.0.2.2", later, "b")
	if got := c.Table.Snapshot().Hosts[0].TransmitBytes; got > mostOfAll || got < mostOfAll-2*mostOfRecord {
		t.Errorf("the total is %d, want nearly %d", got, int64(mostOfAll))
	}
}

// TestManyRecordsOfADatagram are not all held at a time.
func TestManyRecordsOfADatagram(t *testing.T) {
	many := make([]Record, 100_000)
	for i := range many {
		many[i] = record("10.0.0.1", "10.0.0.2", 100, 1, nil)
	}
	c := newCollector(t, list{'a': many, 'b': many[:1]}, nil, nil)
	c.receive("192.0.2.1", time.Now(), "b")
	b := &batch{of: c, at: time.Now()}
	c.take(b, []byte{'a'}, netip.MustParseAddrPort("192.0.2.1:1"))
	if cap(b.records) > 2*mostPending {
		t.Errorf("%d records are held", cap(b.records))
	}
	b.count()
	if got := c.Statuses()[1].Records[frame.Counted]; got != int64(len(many))+1 {
		t.Errorf("%d records are counted", got)
	}
}

// TestEmptyRecords take no place in the table.
func TestEmptyRecords(t *testing.T) {
	c := newCollector(t, list{'a': {record("10.0.0.1", "10.0.0.2", 0, 0, nil)}}, nil, nil)
	c.receive("192.0.2.1", time.Now(), "a")
	if s := c.Statuses()[1]; s.Empty != 1 || len(totals(c.Table)) != 0 {
		t.Errorf("%d records are empty, the totals are %q", s.Empty, totals(c.Table))
	}
}

// TestExportersComeAndGo has many come and go while others look at them: the race detector would find what is not locked.
func TestExportersComeAndGo(t *testing.T) {
	c := newCollector(t, list{'a': {record("10.0.0.1", "10.0.0.2", 100, 1, nil)}, 'l': nil}, nil, func(c *Config) { c.Exporters = prefixes("0.0.0.0/0") })
	now, done := time.Now(), make(chan struct{})
	go func() {
		defer close(done)
		for range 20 {
			c.tick(now)
			c.Statuses()
		}
	}()
	for i := range uint32(3 * mostExporters) {
		var a [4]byte
		binary.BigEndian.PutUint32(a[:], 0x0b000000+i)
		c.receive(netip.AddrFrom4(a).String(), now.Add(time.Duration(i)*time.Second), "al")
	}
	<-done
	c.tick(now.Add(keepFor * 2))
	all := c.Statuses()
	var bytes, dropped int64
	for _, s := range all {
		bytes, dropped = bytes+s.Outcomes[frame.Counted].Bytes, dropped+s.Dropped
	}
	if len(all) != 2 || bytes != 100*c.Statuses()[1].Records[frame.Counted] || bytes != totalBytes(c.Table) || dropped != 5*bytes/100 {
		t.Errorf("there are %d statuses with %d bytes and %d dropped, %d bytes in the table", len(all), bytes, dropped, totalBytes(c.Table))
	}
}

func totalBytes(table *capture.Table) int64 { return table.Snapshot().Hosts[0].TransmitBytes }

// TestBusyAddress has another collector on the address.
func TestBusyAddress(t *testing.T) {
	c := newCollector(t, nil, nil, nil)
	if _, err := Open(Config{Protocol: c.Protocol, Address: c.Address, Table: c.Table, Log: c.Log}); err == nil {
		t.Error("two collectors have the same address")
	}
}

// TestNothingIsAllocated takes and counts datagrams of a known exporter, and of one that may not send.
func TestNothingIsAllocated(t *testing.T) {
	c := newCollector(t, list{'a': {record("10.0.0.1", "10.0.0.2", 100, 1, nil), record("10.0.0.2", "10.0.0.1", 100, 1, nil)}}, nil, nil)
	b := &batch{of: c, at: time.Now()}
	known, other := netip.MustParseAddrPort("192.0.2.1:999"), netip.MustParseAddrPort("198.51.100.1:999")
	data := []byte{'a'}
	if n := testing.AllocsPerRun(1000, func() {
		c.take(b, data, known)
		c.take(b, data, other)
		b.count()
	}); n != 0 {
		t.Errorf("two datagrams allocate %v times", n)
	}
}

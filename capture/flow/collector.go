package flow

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"math/bits"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"promflow/capture"
	"promflow/capture/frame"
	"promflow/capture/subnets"
)

// Config configures a collector.
type Config struct {
	Protocol  *Protocol
	Address   string      // host:port to receive at
	Exporters subnets.Set // who may send
	Rate      uint32      // how much records are multiplied by; 0: as exporters say
	Direction Direction   // of the records that count, beside those that do not say theirs; Unknown: both
	Table     *capture.Table
	Log       *slog.Logger
}

// Limits of exporters.
const (
	mostExporters = 1024
	silentFor     = 10 * time.Minute // before another exporter may take its place
	keepFor       = 24 * time.Hour   // without a datagram
	mostInputs    = 1024             // interfaces of an exporter with a label
)

// Limits of what is counted: no sum overflows, whatever exporters say.
const (
	mostOfRecord = 1 << 50 // bytes or packets, once multiplied
	mostInSecond = 1 << 44 // of one exporter on average, 140 Tbit/s, beside four such records
	mostOfAll    = 1 << 62
)

// mostPending is how many records are held until they are counted together.
const mostPending = 4096

// Collector receives the datagrams of exporters, and counts their records. Its methods are safe for concurrent use, but not with Close.
type Collector struct {
	Config
	limits  *Limits
	socket  *socket
	refused atomic.Int64 // datagrams of those who may not send, or of exporters for which there is no room
	strange atomic.Int64 // malformed datagrams of those who have not sent anything else
	noRoom  rate.Sometimes
	short   rate.Sometimes

	// The table's lock guards this.
	counted amount

	mu        sync.RWMutex
	exporters map[netip.Addr]*exporter
	full      time.Time  // until then no exporter gives its place to another
	last      netip.Addr // whose datagram was refused last
	gone      Status     // the sum of exporters that have given their place to others
}

// Open binds the address.
func Open(c Config) (*Collector, error) {
	socket, err := listen(c.Address, c.Log)
	if err != nil {
		return nil, err
	}
	c.Address = socket.address(c.Address)
	limits := NewLimits()
	limits.IgnoreRates = c.Rate > 0
	return &Collector{
		Config: c, limits: limits, socket: socket, exporters: map[netip.Addr]*exporter{},
		noRoom: rate.Sometimes{Interval: time.Minute}, short: rate.Sometimes{Interval: time.Minute},
	}, nil
}

// Run counts until ctx ends, and then what has arrived until then.
func (c *Collector) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { c.read(ctx); return nil })
	group.Go(func() error {
		tick := time.Tick(time.Second)
		for {
			select {
			case <-ctx.Done():
				return nil
			case now := <-tick:
				c.tick(now)
			}
		}
	})
	err := group.Wait()
	c.end()
	return err
}

// read counts what arrives until ctx ends.
func (c *Collector) read(ctx context.Context) {
	stop := context.AfterFunc(ctx, c.socket.interrupt)
	defer stop()
	b := &batch{of: c}
	failed := rate.Sometimes{Interval: time.Minute}
	for {
		n, err := c.socket.receive()
		if errors.Is(err, errInterrupted) {
			return
		}
		if err != nil {
			failed.Do(func() {
				c.Log.Error("receiving at an address failed: trying again", "address", c.Address, "error", err)
			})
			time.Sleep(100 * time.Millisecond)
			continue
		}
		b.at = time.Now()
		var refused int64
		var last netip.Addr
		for i := range n {
			data, from := c.socket.datagram(i)
			if !c.take(b, data, from) {
				refused++
				last = from.Addr()
			}
		}
		if refused > 0 {
			c.refuse(refused, last)
		}
		b.count()
	}
}

// refuse counts datagrams that are refused, the last one from an address.
func (c *Collector) refuse(datagrams int64, last netip.Addr) {
	c.refused.Add(datagrams)
	c.mu.Lock()
	c.last = last
	c.mu.Unlock()
}

// take decodes a datagram. It returns false if the sender may not send, or there is no room for it.
func (c *Collector) take(b *batch, data []byte, from netip.AddrPort) bool {
	addr := from.Addr()
	if !c.allowed(addr) {
		return false
	}
	d := Datagram{data, from.Port(), b.at}
	return c.hear(b, c.exporter(addr), d) || c.meet(b, addr, d)
}

// exporter returns the exporter with an address, or nil if none is known.
func (c *Collector) exporter(addr netip.Addr) *exporter {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.exporters[addr]
}

// hear takes a datagram of an exporter. It returns false if that is not known any more, or nil.
func (c *Collector) hear(b *batch, e *exporter, d Datagram) bool {
	if e == nil {
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.gone {
		return false
	}
	e.hear(d.At)
	b.exporter = e
	if !e.decoder.Decode(d, b) {
		b.Record(&malformed)
	}
	return true
}

// meet takes the first datagram of an exporter. One that is malformed does not make an exporter: anybody can send such in the name of others.
func (c *Collector) meet(b *batch, addr netip.Addr, d Datagram) bool {
	room, silent := c.room(d.At)
	if !room {
		c.noRoom.Do(func() {
			c.Log.Warn("there is no room for another exporter until one has been silent for long", "exporter", addr, "exporters", mostExporters, "silent", silentFor)
		})
		return false
	}
	e := &exporter{addr: addr, decoder: c.Protocol.New(c.limits), counter: capture.NewCounter(c.Table), up: true, since: d.At}
	e.hear(d.At)
	b.count()
	b.exporter, b.whole = e, true
	good := e.decoder.Decode(d, b)
	b.whole = false
	if !good {
		e.decoder.Close()
		b.records = b.records[:0]
		c.strange.Add(1)
		return true
	}
	if silent != nil {
		c.forget(silent, d.At.Add(-silentFor))
	}
	c.mu.Lock()
	c.exporters[addr] = e
	c.mu.Unlock()
	c.Log.Info("an exporter sends", "exporter", addr)
	return true
}

var malformed = Record{Packet: frame.Packet{Outcome: frame.Malformed}}

func (c *Collector) allowed(addr netip.Addr) bool {
	if addr.Is4() {
		return c.Exporters.Contains4(subnets.Number4(addr))
	}
	return c.Exporters.Contains6(subnets.Number6(addr))
}

// room tells whether there is room for one more exporter, and which one has to go for it, if one has.
func (c *Collector) room(now time.Time) (ok bool, silent *exporter) {
	c.mu.RLock()
	has, full := len(c.exporters) < mostExporters, now.Before(c.full)
	c.mu.RUnlock()
	if has || full {
		return has, nil
	}
	var heard time.Time
	for _, e := range c.all() {
		if at := e.lastHeard(); silent == nil || at.Before(heard) {
			silent, heard = e, at
		}
	}
	if until := heard.Add(silentFor); now.Before(until) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.full = until
		return false, nil
	}
	return true, silent
}

// forget gives up an exporter that was not heard of after some time. Its counts become a part of those that are gone.
func (c *Collector) forget(e *exporter, after time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.gone || e.heard.After(after) {
		return
	}
	e.gone = true
	delete(c.exporters, e.addr)
	c.gone.add(e.status())
	e.decoder.Close()
}

// all returns the exporters, in the order of their addresses.
func (c *Collector) all() []*exporter {
	c.mu.RLock()
	defer c.mu.RUnlock()
	all := make([]*exporter, 0, len(c.exporters))
	for _, e := range c.exporters {
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b *exporter) int { return a.addr.Compare(b.addr) })
	return all
}

// tick ends what has waited for too long, forgets exporters that are long gone, and logs which are silent.
func (c *Collector) tick(now time.Time) {
	b := &batch{of: c, at: now}
	short := c.limits.Templates.wasShort()
	short = c.limits.Domains.wasShort() || short
	if short {
		c.short.Do(func() {
			c.Log.Warn("there is no room for what exporters say: templates of some are not known, until others have been silent for long", "silent", silentFor)
		})
	}
	for _, e := range c.all() {
		e.mu.Lock()
		b.exporter = e
		e.decoder.Tick(now, b)
		silent := now.Sub(e.heard)
		if short && silent >= silentFor {
			e.decoder.Close() // it can be used again
		}
		e.mu.Unlock()
		b.count()
		if silent >= keepFor {
			c.Log.Info("an exporter is forgotten, as it has been silent for long", "exporter", e.addr)
			c.forget(e, now.Add(-keepFor))
			continue
		}
		e.report(c, now)
	}
}

// end ends all waits.
func (c *Collector) end() {
	b := &batch{of: c, at: time.Now()}
	for _, e := range c.all() {
		e.mu.Lock()
		b.exporter = e
		e.decoder.Tick(b.at.Add(time.Minute), b)
		e.mu.Unlock()
		b.count()
	}
}

// batch is the sink of decoders. It holds records until they are counted together.
type batch struct {
	of       *Collector
	at       time.Time
	exporter *exporter // that sent the datagram; its mu is held
	records  []pending
	whole    bool // do not count before the datagram ends
}

type pending struct {
	Record
	exporter *exporter
}

func (b *batch) Record(r *Record) {
	if len(b.records) >= mostPending && !b.whole {
		b.count()
	}
	b.records = append(b.records, pending{*r, b.exporter})
}

func (b *batch) Lost(n int64) { b.exporter.lost += n }

func (b *batch) NoTemplate(n int64) {
	b.exporter.noTemplate += n
	b.exporter.lost += n
}

func (b *batch) Clock(ahead time.Duration) { b.exporter.clock, b.exporter.hasClock = ahead, true }

// count adds the records to the table.
func (b *batch) count() {
	if len(b.records) == 0 {
		return
	}
	lock := b.records[0].exporter.counter // the table's
	lock.Lock()
	for i := range b.records {
		b.of.count(&b.records[i], b.at)
	}
	lock.Unlock()
	if b.records = b.records[:0]; cap(b.records) > 2*mostPending {
		b.records = nil
	}
}

// count adds a record. The caller holds the table's lock.
func (c *Collector) count(r *pending, now time.Time) {
	e := r.exporter
	if c.Direction != Unknown && r.Direction != Unknown && r.Direction != c.Direction {
		e.otherWay++
		return
	}
	rate := c.Rate
	if rate == 0 {
		rate = max(r.Rate, 1)
	}
	if rate > 1 && !r.multiply(rate) || !c.add(&r.Record, e, now) {
		r.Record = malformed
	}
	if r.Bytes|r.Packets|r.ReverseBytes|r.ReversePackets == 0 && r.Outcome == frame.Counted {
		e.empty++
		return
	}
	p := &r.Packet
	var number uint16
	if g := c.Table.Grouping(); g != nil {
		number = e.input(r.Input, g)
	}
	e.records[e.counter.CountOn(number, p)]++
	if r.ReverseBytes != 0 || r.ReversePackets != 0 {
		p.Source, p.Destination = p.Destination, p.Source
		p.Bytes, p.Packets = r.ReverseBytes, r.ReversePackets
		e.counter.CountOn(number, p)
	}
}

// amount is a sum of records.
type amount struct{ bytes, packets int64 }

// add adds a record, unless that is more than most.
func (a *amount) add(r *Record, most int64) bool {
	bytes, packets := a.bytes+r.Bytes+r.ReverseBytes, a.packets+r.Packets+r.ReversePackets
	if bytes > most || packets > most {
		return false
	}
	a.bytes, a.packets = bytes, packets
	return true
}

// add tells whether a record can be: it is not too large, the exporter can have counted so much since it was first heard of, and no sum
// overflows.
func (c *Collector) add(r *Record, e *exporter, now time.Time) bool {
	if r.Bytes > mostOfRecord || r.ReverseBytes > mostOfRecord || r.Packets > mostOfRecord || r.ReversePackets > mostOfRecord {
		return false
	}
	seconds := min(max(int64(now.Sub(e.since)/time.Second), 0), (mostOfAll-4*mostOfRecord)/mostInSecond)
	return e.counted.add(r, 4*mostOfRecord+seconds*mostInSecond) && c.counted.add(r, mostOfAll)
}

// multiply multiplies what was sampled. It returns false if that is too large.
func (r *Record) multiply(rate uint32) bool {
	for _, n := range [...]*int64{&r.Bytes, &r.Packets, &r.ReverseBytes, &r.ReversePackets} {
		hi, lo := bits.Mul64(uint64(*n), uint64(rate))
		if hi != 0 || lo > math.MaxInt64 {
			return false
		}
		*n = int64(lo)
	}
	return true
}

// Status is what is known of an exporter.
type Status struct {
	Exporter string // its address; Gone for the sum of those that were forgotten, and the collector's own address for its socket
	capture.Status
	Records     [frame.Outcomes]int64 // by what became of them
	Empty       int64                 // more records, that have neither bytes nor packets
	OtherWay    int64                 // more records, that are not of the direction that counts
	NoTemplate  int64                 // sets of data whose template did not come; Dropped has them, too
	Refused     int64                 // datagrams of those who may not send, or for whom there is no room, at the socket
	Full        bool                  // the last one was refused for lack of room
	LastRefused netip.Addr            // who sent the last one
	Sends       string                // what it sends, for people
	Unit        string                // what its sequence numbers count, for people
	Clock       time.Duration         // its clock, less this machine's
	HasClock    bool
	Socket      bool // this is the socket
}

// Gone is the name for the sum of exporters that were forgotten.
const Gone = "other"

func (s *Status) add(more Status) {
	s.Dropped += more.Dropped
	for o := range frame.Outcomes {
		s.Outcomes[o].Packets += more.Outcomes[o].Packets
		s.Outcomes[o].Bytes += more.Outcomes[o].Bytes
		s.Records[o] += more.Records[o]
	}
	s.Empty += more.Empty
	s.OtherWay += more.OtherWay
	s.NoTemplate += more.NoTemplate
}

// Statuses returns the state of the socket, and of each exporter.
func (c *Collector) Statuses() []Status {
	socket := Status{Exporter: c.Address, Socket: true, Refused: c.refused.Load()}
	socket.Up, socket.Dropped = true, c.socket.dropped()
	socket.Records[frame.Malformed] = c.strange.Load()
	all := []Status{socket}
	now := time.Now()
	for _, e := range c.all() {
		e.mu.Lock()
		s, gone := e.status(), e.gone
		s.Up, s.Unit = e.isUp(now), c.Protocol.Unit
		e.mu.Unlock()
		if !gone {
			all = append(all, s)
		}
	}
	c.mu.RLock()
	gone := c.gone
	all[0].LastRefused, all[0].Full = c.last, c.last.IsValid() && c.allowed(c.last)
	c.mu.RUnlock()
	if gone != (Status{}) {
		gone.Exporter = Gone
		all = append(all, gone)
	}
	return all
}

// Close closes the socket, after Run has returned or instead of Run.
func (c *Collector) Close() error { return c.socket.close() }

package main

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"promflow/.ci/watched"
	"promflow/capture/nettest"
)

const (
	floodSize   = 64                             // bytes of a frame
	packetSize  = floodSize - nettest.HeaderSize // network-layer bytes of its packet
	floodPart   = 1 << 18                        // frames between two packets of each constant address
	normalHosts = 254                            // of a flood that is none
	forgedHosts = 250 << 16                      // all from 10.0.0.0 to 10.249.255.255
	addressCost = 4 << 10                        // bytes that each address of --max-ips may add to memory
	logLines    = 30
)

// kind is a kind of sources that a flood comes from.
type kind struct {
	name   string
	flood  *nettest.Flood
	rounds []round
}

// round is one flood.
type round struct {
	rate    float64 // packets a second that came out of the link
	cpu     float64 // of promflow, in microseconds for a packet
	dropped float64 // share
}

// flood alternates floods from few hosts with floods from forged addresses, while constant addresses, known before, go on to send
// a little.
func (o options) flood(t nettest.TB, s *subject, promises *promises) string {
	kinds := []*kind{
		{name: fmt.Sprintf("%d hosts", normalHosts), flood: nettest.NewFlood(t, s.link, normalHosts, floodSize)},
		{name: "forged IPv4, 10.0.0.0 to 10.249.255.255", flood: nettest.NewFlood(t, s.link, forgedHosts, floodSize)},
		{name: "forged IPv6, fd00::/64", flood: nettest.NewFlood6(t, s.link, floodSize)},
	}
	constant := newKnown(t, s.link)
	constant.send()
	s.settled()
	before := s.memory()

	frames, most := 0, memory{}
	begin := time.Now()
	for number := range o.rounds + 1 { // the first is to warm up
		for _, kind := range kinds {
			n := o.frames
			if number == 0 {
				n = min(n, 1<<20)
			}
			r := s.inundate(kind.flood, constant, n)
			frames += n
			now := s.memory()
			most = memory{max(most.resident, now.resident), max(most.kernel, now.kernel)}
			if number > 0 {
				kind.rounds = append(kind.rounds, r)
				fmt.Fprintf(o.progress, "  round %d: %s: %.0f kpps, %.2f %% dropped; %s resident, %s in the kernel\n",
					number, kind.name, r.rate/1000, 100*r.dropped, mebibytes(now.resident), mebibytes(now.kernel))
			}
		}
	}
	took := time.Since(begin)

	last, received := s.settled()
	promises.accounts(s, last, constant.sent+int64(frames), received)
	if sum, want := last.sum(), (tally{transmit: (received - last.dropped) * packetSize}); sum != want {
		promises.broke("all addresses together have %+v, want %+v", sum, want)
	}
	for _, broken := range constant.check(last) {
		promises.broke("%s", broken)
	}
	grown := most.resident + most.kernel - before.resident - before.kernel
	if bound := int64(o.maxIPs) * addressCost; grown > bound {
		promises.broke("memory has grown by %s, and %d addresses should take %s at most", mebibytes(grown), o.maxIPs, mebibytes(bound))
	}
	if int(last.tracked) > o.maxIPs {
		promises.broke("%d addresses are tracked, of %d", last.tracked, o.maxIPs)
	}
	lines := promises.log(s, logLines)

	var b strings.Builder
	fmt.Fprintf(&b, "| %s | kpps | of normal | dropped | CPU µs |\n|---|--:|--:|--:|--:|\n", s.capture)
	normal := watched.Median(kinds[0].rounds, func(r round) float64 { return r.rate })
	for _, kind := range kinds {
		rate := watched.Median(kind.rounds, func(r round) float64 { return r.rate })
		fmt.Fprintf(&b, "| %s | %.0f | %.3f | %.2f %% | %.3f |\n", kind.name, rate/1000, rate/normal,
			100*watched.Median(kind.rounds, func(r round) float64 { return r.dropped }), watched.Median(kind.rounds, func(r round) float64 { return r.cpu }))
		if rate < o.keepsRate*normal {
			promises.broke("%s leave %.3f of the normal rate, want %.3f", kind.name, rate/normal, o.keepsRate)
		}
	}
	fmt.Fprintf(&b, "\n| %s | before | most |\n|---|--:|--:|\n", s.capture)
	fmt.Fprintf(&b, "| resident | %s | %s |\n", mebibytes(before.resident), mebibytes(most.resident))
	fmt.Fprintf(&b, "| in the kernel | %s | %s |\n", mebibytes(before.kernel), mebibytes(most.kernel))
	exact := "each exact"
	if last.dropped > 0 {
		exact = fmt.Sprintf("but for some of the %s packets that were dropped", watched.Grouped(int(last.dropped)))
	}
	fmt.Fprintf(&b, "\n%s packets in %v, scrapes included; %s constant addresses, %s; memory grew by %.0f bytes for each of %s addresses; %s of the log.\n",
		watched.Grouped(int(received)), took.Round(time.Second), watched.Grouped(len(constant.books)), exact,
		float64(grown)/float64(o.maxIPs), watched.Grouped(o.maxIPs), watched.Plural(lines, "line"))
	return b.String()
}

// inundate sends one flood, and in between what the constant addresses send, and waits until promflow has taken note of it.
func (s *subject) inundate(flood *nettest.Flood, constant *known, frames int) round {
	before, receivedBefore := s.settled()
	cpuBefore, _ := s.Usage()
	begin := time.Now()
	nettest.Check(s.t, s.link.Sender.Do(func() error {
		for left := frames; left > 0; left -= floodPart {
			flood.Send(min(left, floodPart))
			constant.send()
		}
		return nil
	}))
	took := time.Since(begin)
	cpu := s.Idle() // before it is scraped
	after, received := s.settled()
	packets := float64(received - receivedBefore)
	return round{
		rate:    packets / took.Seconds(),
		cpu:     float64((cpu - cpuBefore).Microseconds()) / packets,
		dropped: float64(after.dropped-before.dropped) / packets,
	}
}

// memory is that of promflow, in bytes.
type memory struct{ resident, kernel int64 }

func (s *subject) memory() memory { return memory{s.Resident(), s.InKernel()} }

// known is addresses that are known before a flood comes, and on which books are kept. No flood comes from them.
type known struct {
	sender *nettest.Sender
	sent   int64
	books  map[netip.Addr]*tally
	frames [][]byte
}

func newKnown(t nettest.TB, link *nettest.Link) *known {
	k := &known{sender: nettest.NewSender(t, link.Sender, nettest.Sending), books: make(map[netip.Addr]*tally)}
	for i := range byte(127) {
		for _, addr := range []netip.Addr{netip.AddrFrom4([4]byte{10, 250, i, 1}), netip.AddrFrom4([4]byte{192, 168, 7, i})} {
			k.books[addr] = new(tally)
			k.frames = append(k.frames, nettest.UDP(addr, stranger4, packetSize))
		}
	}
	return k
}

// check compares a page with the books: each address has what it sent. Where packets were dropped it may have less, but all of them
// together by no more than these.
func (k *known) check(p *page) []string {
	if p.dropped == 0 {
		return sameHosts(k.books, p)
	}
	var missing, tooMuch int64
	for addr, books := range k.books {
		less := books.transmit - p.hosts[addr.String()].transmit
		missing += max(less, 0)
		tooMuch += max(-less, 0)
	}
	if missing > p.dropped*packetSize || tooMuch > 0 {
		return []string{fmt.Sprintf("constant addresses have %d bytes too little and %d too much, with %d packets dropped", missing, tooMuch, p.dropped)}
	}
	return nil
}

// send sends a packet from each address.
func (k *known) send() {
	k.sender.Send(k.frames...)
	k.sent += int64(len(k.frames))
	for _, books := range k.books {
		books.transmit += packetSize
	}
}

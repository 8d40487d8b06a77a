package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"promflow/.ci/testbed"
)

const (
	floodSize   = 64                             // bytes of a frame
	packetSize  = floodSize - testbed.HeaderSize // network-layer bytes of its packet
	floodPart   = 1 << 18                        // frames between two packets of each constant address
	normalHosts = 254                            // of a flood that is none
	forgedHosts = 250 << 16                      // all from 10.0.0.0 to 10.249.255.255
	addressCost = 4 << 10                        // bytes that each address of --max-ips may add to memory
	logLines    = 30
)

// kind is a kind of sources that a flood comes from.
type kind struct {
	name   string
	flood  *testbed.Flood
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
func (o options) flood(ctx context.Context, s *subject, promises *promises) (string, error) {
	kinds := []*kind{{name: fmt.Sprintf("%d hosts", normalHosts)}, {name: "forged IPv4, 10.0.0.0 to 10.249.255.255"}, {name: "forged IPv6, fd00::/64"}}
	for i, open := range []func() (*testbed.Flood, error){
		func() (*testbed.Flood, error) { return testbed.NewFlood(s.link, normalHosts, floodSize) },
		func() (*testbed.Flood, error) { return testbed.NewFlood(s.link, forgedHosts, floodSize) },
		func() (*testbed.Flood, error) { return testbed.NewFlood6(s.link, floodSize) },
	} {
		flood, err := open()
		if err != nil {
			return "", err
		}
		defer flood.Close()
		kinds[i].flood = flood
	}
	constant, err := newKnown(s.link)
	if err != nil {
		return "", err
	}
	defer constant.sender.Close()
	if err := constant.send(); err != nil {
		return "", err
	}
	if _, _, err := s.settled(ctx); err != nil {
		return "", err
	}
	before, err := s.memory()
	if err != nil {
		return "", err
	}

	frames, most := 0, memory{}
	begin := time.Now()
	for number := range o.rounds + 1 { // the first is to warm up
		for _, kind := range kinds {
			n := o.frames
			if number == 0 {
				n = min(n, 1<<20)
			}
			r, err := o.inundate(ctx, s, kind.flood, constant, n)
			if err != nil {
				return "", err
			}
			frames += n
			now, err := s.memory()
			if err != nil {
				return "", err
			}
			most = memory{max(most.resident, now.resident), max(most.kernel, now.kernel)}
			if number > 0 {
				kind.rounds = append(kind.rounds, r)
				fmt.Fprintf(o.progress, "  round %d: %s: %.0f kpps, %.2f %% dropped; %s resident, %s in the kernel\n",
					number, kind.name, r.rate/1000, 100*r.dropped, mebibytes(now.resident), mebibytes(now.kernel))
			}
		}
	}
	took := time.Since(begin)

	last, received, err := s.settled(ctx)
	if err != nil {
		return "", err
	}
	if err := promises.accounts(s, last, constant.sent+int64(frames), received); err != nil {
		return "", err
	}
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
	normal := kinds[0].median(func(r round) float64 { return r.rate })
	for _, kind := range kinds {
		rate := kind.median(func(r round) float64 { return r.rate })
		fmt.Fprintf(&b, "| %s | %.0f | %.3f | %.2f %% | %.3f |\n", kind.name, rate/1000, rate/normal,
			100*kind.median(func(r round) float64 { return r.dropped }), kind.median(func(r round) float64 { return r.cpu }))
		if rate < o.keepsRate*normal {
			promises.broke("%s leave %.3f of the normal rate, want %.3f", kind.name, rate/normal, o.keepsRate)
		}
	}
	fmt.Fprintf(&b, "\n| %s | before | most |\n|---|--:|--:|\n", s.capture)
	fmt.Fprintf(&b, "| resident | %s | %s |\n", mebibytes(before.resident), mebibytes(most.resident))
	fmt.Fprintf(&b, "| in the kernel | %s | %s |\n", mebibytes(before.kernel), mebibytes(most.kernel))
	exact := "each exact"
	if last.dropped > 0 {
		exact = fmt.Sprintf("but for some of the %s packets that were dropped", testbed.Grouped(int(last.dropped)))
	}
	fmt.Fprintf(&b, "\n%s packets in %v, scrapes included; %s constant addresses, %s; memory grew by %.0f bytes for each of %s addresses; %s of the log.\n",
		testbed.Grouped(int(received)), took.Round(time.Second), testbed.Grouped(len(constant.books)), exact,
		float64(grown)/float64(o.maxIPs), testbed.Grouped(o.maxIPs), testbed.Plural(lines, "line"))
	return b.String(), nil
}

func (k *kind) median(figure func(round) float64) float64 {
	var figures []float64
	for _, r := range k.rounds {
		figures = append(figures, figure(r))
	}
	return median(figures)
}

// inundate sends one flood, and in between what the constant addresses send, and waits until promflow has taken note of it.
func (o options) inundate(ctx context.Context, s *subject, flood *testbed.Flood, constant *known, frames int) (r round, err error) {
	before, receivedBefore, err := s.settled(ctx)
	if err != nil {
		return r, err
	}
	cpuBefore, _, err := s.Usage()
	if err != nil {
		return r, err
	}
	begin := time.Now()
	for left := frames; left > 0; left -= floodPart {
		if _, err := flood.Send(ctx, min(left, floodPart)); err != nil {
			return r, err
		}
		if err := constant.send(); err != nil {
			return r, err
		}
	}
	took := time.Since(begin)
	cpu, err := s.Idle(ctx) // before it is scraped
	if err != nil {
		return r, err
	}
	after, received, err := s.settled(ctx)
	if err != nil {
		return r, err
	}
	packets := float64(received - receivedBefore)
	return round{
		rate:    packets / took.Seconds(),
		cpu:     float64((cpu - cpuBefore).Microseconds()) / packets,
		dropped: float64(after.dropped-before.dropped) / packets,
	}, nil
}

// memory is that of promflow, in bytes.
type memory struct{ resident, kernel int64 }

func (s *subject) memory() (m memory, err error) {
	var errs [2]error
	m.resident, errs[0] = s.Resident()
	m.kernel, errs[1] = s.InKernel()
	return m, errors.Join(errs[:]...)
}

// known is addresses that are known before a flood comes, and on which books are kept. No flood comes from them.
type known struct {
	sender *testbed.Sender
	sent   int64
	books  map[netip.Addr]*tally
	frames [][]byte
}

func newKnown(link *testbed.Link) (*known, error) {
	k := &known{books: make(map[netip.Addr]*tally)}
	for i := range byte(127) {
		for _, addr := range []netip.Addr{netip.AddrFrom4([4]byte{10, 250, i, 1}), netip.AddrFrom4([4]byte{192, 168, 7, i})} {
			k.books[addr] = new(tally)
			k.frames = append(k.frames, testbed.AppendFrame(nil, addr, stranger4, packetSize))
		}
	}
	sender, err := testbed.NewSender(link)
	k.sender = sender
	return k, err
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
func (k *known) send() error {
	next := 0
	err := k.sender.Send(func() []byte {
		if next == len(k.frames) {
			return nil
		}
		next++
		return k.frames[next-1]
	})
	if err != nil {
		return err
	}
	k.sent += int64(next)
	for _, books := range k.books {
		books.transmit += packetSize
	}
	return nil
}

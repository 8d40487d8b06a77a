package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"promflow/.ci/watched"
	"promflow/capture/nettest"
)

const pushInterval = 5 * time.Second

// soak sends traffic, scrapes, and restarts the collector, until the time is over and everything has to be exact.
func (o options) soak(t nettest.TB, dir string, s *subject, promises *promises) string {
	traffic := newTraffic(o.maxIPs, o.expireAfter)
	w := &watch{options: o, subject: s, promises: promises, constant: make(map[string]bool)}
	for addr := range traffic.constant {
		w.constant[addr.String()] = true
	}
	c := &collector{options: o, t: t, link: s.link, log: filepath.Join(dir, "collector.log")}
	t.Cleanup(c.kill)
	sender := nettest.NewSender(t, s.link.Sender, nettest.Sending)

	// Each of the three ends when the time is over, or another has failed.
	timed, cancel := context.WithTimeout(t.Context(), o.duration)
	defer cancel()
	var group sync.WaitGroup
	group.Go(func() {
		nettest.Check(t, s.link.Sender.Do(func() error { o.send(timed, sender, traffic); return nil }))
	})
	group.Go(func() { w.run(timed) })
	if o.collector != "none" {
		group.Go(func() { c.run(timed) })
	}
	group.Wait()
	nettest.Check(t, t.Context().Err())

	last, received := s.settled()
	promises.accounts(s, last, traffic.sent, received)
	if last.dropped > 0 {
		promises.broke("%d packets were dropped", last.dropped)
	}
	for _, broken := range traffic.check(last) {
		promises.broke("%s", broken)
	}
	if o.collector != "none" {
		c.check(s, traffic, promises)
	}
	lines := promises.log(s, 20+4*c.restarts)
	early, end := w.flat(promises)
	if w.expired == 0 || last.evictedIPs == 0 {
		promises.broke("at most %d addresses were expired and %d evicted: the run shows nothing about that", w.expired, last.evictedIPs)
	}

	var b strings.Builder
	rate := float64(received) / w.took.Seconds()
	fmt.Fprintf(&b, "| %s | |\n|---|--:|\n", s.capture)
	for _, row := range [][2]string{
		{"time", w.took.Round(time.Second).String()},
		{"packets", watched.Grouped(int(received))},
		{"packets a second", watched.Grouped(int(rate))},
		{"dropped", watched.Grouped(int(last.dropped))},
		{"constant addresses, each exact", watched.Grouped(len(traffic.constant))},
		{"addresses on the page, most", watched.Grouped(w.shown)},
		{"addresses expired, most at a time", watched.Grouped(int(w.expired))},
		{"addresses evicted", watched.Grouped(int(last.evictedIPs))},
		{"scrapes", watched.Grouped(w.scrapes)},
		{"slowest scrape", w.slowest.Round(time.Millisecond).String()},
		{"restarts of the collector, pushes failed", fmt.Sprintf("%d, %d", c.restarts, last.pushFailures)},
		{"processor time", fmt.Sprintf("%.1f %%", 100*w.cpu.Seconds()/w.took.Seconds())},
		{"resident, " + w.early().String() + " after the begin", mebibytes(early)},
		{"resident, at the end", mebibytes(end)},
		{"lines of the log", watched.Grouped(lines)},
	} {
		fmt.Fprintf(&b, "| %s | %s |\n", row[0], row[1])
	}
	return b.String()
}

// send sends traffic at the rate until ctx ends.
func (o options) send(ctx context.Context, sender *nettest.Sender, traffic *traffic) {
	begin := time.Now()
	missed := int64(0) // that were not sent when they should have been, since the machine was busy
	var frame []byte
	for ctx.Err() == nil {
		now := time.Since(begin)
		due := int64(now.Seconds()*float64(o.rate)) - missed
		if late := due - traffic.sent - int64(o.rate)/10; late > 0 {
			missed += late
			due -= late
		}
		for traffic.sent < due {
			p := traffic.next(now)
			frame = nettest.AppendUDP(frame[:0], p.from, p.to, p.size)
			sender.Send(frame)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// watch scrapes, and looks at memory and processor time.
type watch struct {
	options
	subject  *subject
	promises *promises
	constant map[string]bool

	took     time.Duration
	cpu      time.Duration
	scrapes  int
	slowest  time.Duration
	shown    int
	expired  int64
	resident []int64 // bytes, at each scrape
}

// run scrapes until ctx ends. It tells of each minute, or of each eighth of a shorter run.
func (w *watch) run(ctx context.Context) {
	const every = time.Minute
	begin, reported := time.Now(), time.Duration(0)
	startCPU, _ := w.subject.Usage()
	interval := min(every, w.duration/8)
	ticks := time.NewTicker(w.scrape)
	defer ticks.Stop()
	var before *page
	var slowest time.Duration // since it was last told
	for {
		select {
		case <-ctx.Done():
			w.took = time.Since(begin)
			cpu, _ := w.subject.Usage()
			w.cpu = cpu - startCPU
			return
		case <-ticks.C:
		}
		start := time.Now()
		now, err := w.subject.page()
		if err != nil {
			nettest.Check(w.subject.t, errors.Join(w.subject.t.Context().Err(), w.subject.Alive()))
			w.promises.broke("scrape %d: %v", w.scrapes+1, err)
			continue
		}
		took := time.Since(start)
		w.scrapes++
		slowest, w.slowest = max(slowest, took), max(w.slowest, took)
		w.shown, w.expired = max(w.shown, len(now.hosts)), max(w.expired, now.expiredIPs)
		if before != nil {
			w.compare(now, before)
		}
		before = now
		resident := w.subject.Resident()
		w.resident = append(w.resident, resident)
		if elapsed := time.Since(begin); elapsed-reported >= interval {
			reported = elapsed
			cpu, _ := w.subject.Usage()
			fmt.Fprintf(w.progress, "  %v: %s packets, %d dropped; %d addresses on the page, %d expired, %d evicted; slowest scrape %v; %s resident, %.1f %% of a processor\n",
				elapsed.Round(time.Second), watched.Grouped(int(now.packets)), now.dropped, len(now.hosts), now.expiredIPs, now.evictedIPs,
				slowest.Round(time.Millisecond), mebibytes(resident), 100*(cpu-startCPU).Seconds()/elapsed.Seconds())
			slowest = 0
		}
	}
}

// compare wants nothing to go backwards from one page to the next, and no address that never rests to be missing.
func (w *watch) compare(now, before *page) {
	if sum, earlier := now.sum(), before.sum(); sum.less(earlier) {
		w.promises.broke("scrape %d: all addresses together had %+v, and have %+v", w.scrapes, earlier, sum)
	}
	if other, earlier := now.hosts["other"], before.hosts["other"]; other.less(earlier) {
		w.promises.broke("scrape %d: the others had %+v, and have %+v", w.scrapes, earlier, other)
	}
	if now.packets < before.packets || now.dropped < before.dropped {
		w.promises.broke("scrape %d: there were %d packets and %d dropped, and now %d and %d", w.scrapes, before.packets, before.dropped, now.packets, now.dropped)
	}
	for addr := range w.constant {
		if host, earlier := now.hosts[addr], before.hosts[addr]; host.less(earlier) {
			w.promises.broke("scrape %d: %s had %+v, and has %+v", w.scrapes, addr, earlier, host)
		}
	}
	if full := int(now.tracked); full > w.maxIPs {
		w.promises.broke("scrape %d: %d addresses are tracked, of %d", w.scrapes, full, w.maxIPs)
	}
}

// early is when memory should have reached its size, as far as a scan has filled the table by then: after five minutes, or half of a
// shorter run.
func (w *watch) early() time.Duration { return min(5*time.Minute, w.duration/2) }

// flat wants the resident memory at the end not to be far above what it was early. As collections of garbage make it rise
// and fall, each is the median of some scrapes.
func (w *watch) flat(promises *promises) (early, end int64) {
	around := max(1, min(len(w.resident)/8, int(time.Minute/w.scrape)))
	at := int(int64(len(w.resident)) * int64(w.early()) / int64(w.duration))
	if len(w.resident) < 8 {
		promises.broke("there were only %d scrapes", len(w.resident))
		return 0, 0
	}
	itself := func(bytes int64) int64 { return bytes }
	early = watched.Median(w.resident[at:at+around], itself)
	end = watched.Median(w.resident[len(w.resident)-around:], itself)
	if float64(end) > (1+w.grows)*float64(early) {
		promises.broke("memory has grown from %s to %s", mebibytes(early), mebibytes(end))
	}
	return early, end
}

// collector is an OpenTelemetry collector at the receiving end of the link.
type collector struct {
	options
	t        nettest.TB
	link     *nettest.Link
	log      string
	process  *watched.Process // nil if it is down
	restarts int
}

// run has the collector run, and kills it every now and then, until ctx ends. Then it runs.
func (c *collector) run(ctx context.Context) {
	down := c.restart / 10
	for {
		c.process = watched.Start(c.t, c.link, c.log, c.collector, "--config="+c.config)
		c.process.WaitReady(func() error {
			_, err := c.process.Get("http://127.0.0.1:13133")
			return err
		})
		if wait(ctx, c.restart-down); ctx.Err() != nil {
			return
		}
		c.kill()
		c.restarts++
		wait(ctx, down)
	}
}

// wait waits for so long, or until ctx ends.
func wait(ctx context.Context, long time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(long):
	}
}

func (c *collector) kill() {
	if c.process != nil {
		c.process.Kill()
		c.process = nil
	}
}

// check wants the collector to have of each constant address what was sent, by some push after the end.
func (c *collector) check(s *subject, traffic *traffic, promises *promises) {
	var broken []string
	err := watched.Poll(c.t.Context(), 6*pushInterval, func() bool {
		text, err := s.Get("http://127.0.0.1:8889/metrics")
		if err != nil {
			broken = []string{err.Error()} // it may be starting
			return false
		}
		p, err := parsePage(text)
		nettest.Check(c.t, err)
		broken = sameHosts(traffic.constant, p)
		return len(broken) == 0
	})
	if err != nil {
		promises.broke("at the collector, %s", broken[0])
	}
}

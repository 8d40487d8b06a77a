package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"promflow/.ci/watched"
	"promflow/capture/nettest"
)

const address = "127.0.0.1:9088" // of promflow's page, in a namespace of its own

// run soaks each backend, or floods it, and writes what came of it, as Markdown. It is an error if a promise was broken.
func run(ctx context.Context, o options, out io.Writer) error {
	var broken []error
	err := nettest.Try(ctx, func(t nettest.TB) {
		nettest.NeedRoot(t)
		if o.collector != "none" && !o.spoof {
			if _, err := exec.LookPath(o.collector); err != nil {
				t.Fatal(fmt.Errorf("-collector: %w (examples/otel-collector says how to build one; -collector=none does without)", err))
			}
			if _, err := os.Stat(o.config); err != nil {
				t.Fatal(fmt.Errorf("-collector-config: %w", err))
			}
		}
		dir := t.TempDir()
		if o.promflow == "" {
			o.promflow = watched.Build(t, dir)
		}
		program, err := exec.LookPath(o.promflow)
		if err != nil {
			t.Fatal(fmt.Errorf("-promflow: %w", err))
		}
		o.promflow = program
		_, err = fmt.Fprintf(out, "%s, %s; --max-ips=%d --expire-after=%v\n",
			time.Now().Format(time.DateOnly), watched.Machine(), o.maxIPs, o.expireAfter)
		nettest.Check(t, err)
		for _, capture := range o.captures {
			fmt.Fprintf(o.progress, "%s:\n", capture)
			promises := &promises{capture: capture, progress: o.progress}
			var report string
			err := nettest.Try(t.Context(), func(t nettest.TB) { report = o.try(t, dir, promises) })
			if err != nil {
				t.Fatal(fmt.Errorf("%s: %w", capture, err))
			}
			_, err = fmt.Fprintf(out, "\n%s", report)
			nettest.Check(t, err)
			broken = append(broken, promises.err())
		}
	})
	if err != nil {
		return err
	}
	return errors.Join(broken...)
}

// try runs promflow with a backend through a soak, or through floods.
func (o options) try(t nettest.TB, dir string, promises *promises) (report string) {
	link := nettest.NewLink(t)
	s := &subject{t: t, link: link, capture: promises.capture}
	command := []string{o.promflow, "--interface=" + nettest.Receiving, "--capture=" + s.capture, "--metrics-address=" + address,
		"--monitor-subnets=" + monitored, "--exclude-subnets=" + excluded,
		"--max-ips=" + strconv.Itoa(o.maxIPs), "--expire-after=" + o.expireAfter.String()}
	if o.collector != "none" && !o.spoof {
		command = append(command, "--otlp-endpoint=127.0.0.1:4317", "--otlp-interval="+pushInterval.String(), "--otlp-timeout=2s")
	}
	s.Process = watched.Start(t, link, filepath.Join(dir, s.capture+".log"), command...)
	t.Cleanup(s.Stop)
	s.WaitReady(func() error {
		_, err := s.Get("http://" + address + "/-/ready")
		return err
	})
	if o.spoof {
		return o.flood(t, s, promises)
	}
	return o.soak(t, dir, s, promises)
}

// subject is the promflow that is put to the test.
type subject struct {
	*watched.Process
	t       nettest.TB
	link    *nettest.Link
	capture string
}

// page scrapes it.
func (s *subject) page() (*page, error) {
	text, err := s.Get("http://" + address + "/metrics")
	if err != nil {
		return nil, errors.Join(err, s.Alive())
	}
	return parsePage(text)
}

// settled scrapes until every packet that came out of the link is counted or dropped, or nothing changes any more, and gives the
// last page.
func (s *subject) settled() (p *page, received int64) {
	received = s.link.Received()
	before := int64(-1)
	watched.Settle(s.t, time.Second, func() (same, done bool) {
		var err error
		p, err = s.page()
		nettest.Check(s.t, err)
		now := p.packets + p.dropped
		same, before = now == before, now
		return same, now == received
	})
	return p, received
}

// promises notes those that were broken. It is safe for concurrent use.
type promises struct {
	capture  string
	progress io.Writer

	mu     sync.Mutex
	broken []string
	more   int
}

// broke notes a broken promise. After some, it only counts them.
func (p *promises) broke(format string, a ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	text := fmt.Sprintf(format, a...)
	if len(p.broken) == 20 {
		p.more++
		return
	}
	p.broken = append(p.broken, text)
	fmt.Fprintf(p.progress, "  BROKEN: %s\n", text)
}

// err names the broken promises.
func (p *promises) err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.broken) == 0 {
		return nil
	}
	text := strings.Join(p.broken, "\n  ")
	if p.more > 0 {
		text += fmt.Sprintf("\n  and %d more", p.more)
	}
	return fmt.Errorf("with %s, promises were broken:\n  %s", p.capture, text)
}

// accounts wants all packets that were sent to have come out of the link, and all that came out to have been counted or dropped.
func (p *promises) accounts(s *subject, now *page, sent, received int64) {
	if received != sent {
		p.broke("not promflow's, but the link's: %d packets were sent and %d came out (%+v, %+v)", sent, received,
			s.link.Sender.Counters(nettest.Sending), s.link.Receiver.Counters(nettest.Receiving))
	}
	if now.packets+now.dropped != received {
		p.broke("%d packets came out of the link; %d are counted by outcome and %d dropped, which is %+d",
			received, now.packets, now.dropped, now.packets+now.dropped-received)
	}
}

// complaint is a line of the log that may have to be answered.
var complaint = regexp.MustCompile(`(?m)^.*level=(WARN|ERROR).*$`)

// log wants the log to have at most so many lines, and gives how many it has.
func (p *promises) log(s *subject, most int) int {
	text := s.Output()
	lines := strings.Count(text, "\n")
	if lines > most {
		p.broke("the log has %d lines, %d would be well: the last is %q", lines, most, s.LastWords())
	}
	for _, line := range complaint.FindAllString(text, -1) {
		if !strings.Contains(line, "OTLP export") && !strings.Contains(line, "the table is full") { // as it is to be
			p.broke("the log complains: %s", line)
		}
	}
	return lines
}

func mebibytes(bytes int64) string { return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20)) }

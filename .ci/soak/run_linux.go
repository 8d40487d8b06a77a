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
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"promflow/.ci/testbed"
)

const address = "127.0.0.1:9088" // of promflow's page, in a namespace of its own

// run soaks each backend, or floods it, and writes what came of it, as Markdown. It is an error if a promise was broken.
func run(ctx context.Context, o options, out io.Writer) (err error) {
	if err := testbed.Check(); err != nil {
		return err
	}
	if o.collector != "none" && !o.spoof {
		if _, err := exec.LookPath(o.collector); err != nil {
			return fmt.Errorf("-collector: %w (examples/otel-collector says how to build one; -collector=none does without)", err)
		}
		if _, err := os.Stat(o.config); err != nil {
			return fmt.Errorf("-collector-config: %w", err)
		}
	}
	dir, err := os.MkdirTemp("", "promflow-soak-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if o.promflow == "" {
		if o.promflow, err = testbed.Build(ctx, dir); err != nil {
			return err
		}
	}
	if o.promflow, err = exec.LookPath(o.promflow); err != nil {
		return fmt.Errorf("-promflow: %w", err)
	}
	machine, err := testbed.Machine()
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(out, "%s, %s; --max-ips=%d --expire-after=%v\n", time.Now().Format(time.DateOnly), machine, o.maxIPs, o.expireAfter); err != nil {
		return err
	}
	var broken []error
	for _, capture := range o.captures {
		fmt.Fprintf(o.progress, "%s:\n", capture)
		promises := &promises{capture: capture, progress: o.progress}
		report, err := o.try(ctx, dir, capture, promises)
		if err != nil {
			return fmt.Errorf("%s: %w", capture, err)
		}
		if _, err := fmt.Fprintf(out, "\n%s", report); err != nil {
			return err
		}
		broken = append(broken, promises.err())
	}
	return errors.Join(broken...)
}

// try runs promflow with a backend through a soak, or through floods.
func (o options) try(ctx context.Context, dir, capture string, promises *promises) (report string, err error) {
	sendCPU, watchCPU, err := testbed.PickCPUs()
	if err != nil {
		return "", err
	}
	link, err := testbed.NewLink(sendCPU, watchCPU)
	if err != nil {
		return "", err
	}
	defer link.Close()
	s := &subject{link: link, capture: capture}
	command := []string{o.promflow, "--interface=" + testbed.Receiving, "--capture=" + capture, "--metrics-address=" + address,
		"--monitor-subnets=" + monitored, "--exclude-subnets=" + excluded,
		"--max-ips=" + strconv.Itoa(o.maxIPs), "--expire-after=" + o.expireAfter.String()}
	if o.collector != "none" && !o.spoof {
		command = append(command, "--otlp-endpoint=127.0.0.1:4317", "--otlp-interval="+pushInterval.String(), "--otlp-timeout=2s")
	}
	if s.Process, err = testbed.StartProcess(link, filepath.Join(dir, capture+".log"), command); err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	err = s.WaitReady(ctx, func(ctx context.Context, p *testbed.Process) error {
		_, err := p.Page(ctx, "http://"+address+"/-/ready")
		return err
	})
	if err != nil {
		return "", err
	}
	if o.spoof {
		return o.flood(ctx, s, promises)
	}
	return o.soak(ctx, dir, s, promises)
}

// subject is the promflow that is put to the test.
type subject struct {
	*testbed.Process
	link    *testbed.Link
	capture string
}

// page scrapes it.
func (s *subject) page(ctx context.Context) (*page, error) {
	text, err := s.Page(ctx, "http://"+address+"/metrics")
	if err != nil {
		return nil, errors.Join(err, s.Alive())
	}
	return parsePage(text)
}

// settled scrapes until every packet that came out of the link is counted or dropped, or nothing changes any more, and gives the
// last page.
func (s *subject) settled(ctx context.Context) (p *page, received int64, err error) {
	if received, err = s.link.Received(); err != nil {
		return nil, 0, err
	}
	const look, same = 100 * time.Millisecond, time.Second
	last, since, before := time.Time{}, time.Now(), int64(-1)
	err = testbed.Poll(ctx, 15*time.Second, func() (done bool, err error) {
		if time.Since(last) < look {
			return false, nil
		}
		if p, err = s.page(ctx); err != nil {
			return false, err
		}
		last = time.Now()
		if now := p.packets + p.dropped; now != before {
			before, since = now, last
		}
		return before == received || time.Since(since) > same, nil
	})
	if errors.Is(err, os.ErrDeadlineExceeded) && p != nil {
		err = nil
	}
	return p, received, err
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
func (p *promises) accounts(s *subject, now *page, sent, received int64) error {
	sending, receiving, err := s.link.Counters()
	if err != nil {
		return err
	}
	if received != sent {
		p.broke("not promflow's, but the link's: %d packets were sent and %d came out (%+v, %+v)", sent, received, sending, receiving)
	}
	if now.packets+now.dropped != received {
		p.broke("%d packets came out of the link; %d are counted by outcome and %d dropped, which is %+d", received, now.packets, now.dropped, now.packets+now.dropped-received)
	}
	return nil
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

// median is that of figures; of an even number of them, the mean of the middle two.
func median[T int64 | float64](figures []T) T {
	sorted := slices.Sorted(slices.Values(figures))
	n := len(sorted)
	if n == 0 {
		return 0
	}
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

func mebibytes(bytes int64) string { return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20)) }

package app

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"promflow/capture/capturetest"
)

// beProgram makes the test binary be promflow, so that tests run the real program as a process of its own.
const beProgram = "PROMFLOW_TEST_BE_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(beProgram) != "" {
		os.Unsetenv(beProgram)
		os.Exit(Main(os.Args))
	}
	os.Exit(m.Run())
}

// deadline is how long anything may take on a busy machine before a test is lost.
const deadline = 30 * time.Second

// promflow prepares the program to run, in a network namespace unless ns is nil.
func promflow(t *testing.T, ns *capturetest.Namespace, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	if ns != nil {
		cmd = ns.Command(append([]string{self}, args...)...)
	}
	cmd.Env = append(os.Environ(), beProgram+"=1")
	return cmd
}

// fails runs the program, which must end with status 1 and one line on standard error, and returns that line and what it
// printed.
func fails(t *testing.T, cmd *exec.Cmd) (line, printed string) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := runWithin(cmd)
	if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("ended with %v, want status 1; it said: %s", err, &errs)
	}
	if n := strings.Count(errs.String(), "\n"); n != 1 || !strings.HasPrefix(errs.String(), "promflow: ") {
		t.Errorf("said %d lines, want one that begins with promflow: %s", n, &errs)
	}
	return errs.String(), out.String()
}

// runWithin runs cmd, and kills it at the deadline.
func runWithin(cmd *exec.Cmd) error {
	if err := cmd.Start(); err != nil {
		return err
	}
	defer time.AfterFunc(deadline, func() { cmd.Process.Kill() }).Stop()
	return cmd.Wait()
}

// program is a promflow that serves.
type program struct {
	t       *testing.T
	cmd     *exec.Cmd
	address string
	client  *http.Client
	log     *logBuffer
	ended   chan struct{}
	err     error // of its process, once ended
}

// serve starts the program with a port of the system's choice, and waits until it serves. The test's end kills it.
func serve(t *testing.T, ns *capturetest.Namespace, args ...string) *program {
	t.Helper()
	p := &program{
		t:     t,
		cmd:   promflow(t, ns, append([]string{"--metrics-address=127.0.0.1:0"}, args...)...),
		log:   &logBuffer{listening: make(chan string, 1)},
		ended: make(chan struct{}),
	}
	p.client = &http.Client{Timeout: deadline, Transport: &http.Transport{DialContext: p.dial(ns)}}
	p.cmd.Stderr = p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.err = p.cmd.Wait(); close(p.ended) }()
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		<-p.ended
		if t.Failed() {
			t.Logf("promflow's log:\n%s", p.log)
		}
	})
	select {
	case p.address = <-p.log.listening:
	case <-p.ended:
		t.Fatalf("promflow ended at its start: %v\n%s", p.err, p.log)
	case <-time.After(deadline):
		t.Fatal("promflow does not serve")
	}
	return p
}

// dial connects from within the namespace.
func (p *program) dial(ns *capturetest.Namespace) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (c net.Conn, err error) {
		connect := func() error {
			c, err = new(net.Dialer).DialContext(ctx, network, address)
			return err
		}
		if ns == nil {
			return c, connect()
		}
		return c, ns.Do(connect)
	}
}

// get fetches a page.
func (p *program) get(path string) string {
	p.t.Helper()
	response, err := p.client.Get("http://" + p.address + path)
	if err != nil {
		p.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		p.t.Fatalf("%s: %s, %v: %s", path, response.Status, err, body)
	}
	return string(body)
}

// terminate asks the program to end, waits, and returns how long that took. Its status must be 0.
func (p *program) terminate() time.Duration {
	p.t.Helper()
	begin := time.Now()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	select {
	case <-p.ended:
	case <-time.After(deadline):
		p.t.Fatal("promflow does not end")
	}
	if p.err != nil {
		p.t.Errorf("promflow ended with %v", p.err)
	}
	return time.Since(begin)
}

// logBuffer keeps a program's log and finds its address in there.
type logBuffer struct {
	mu        sync.Mutex
	text      bytes.Buffer
	listening chan string
	found     bool
}

var listeningOn = regexp.MustCompile(`msg="Listening on" address=(\S+)`)

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text.Write(p)
	if m := listeningOn.FindSubmatch(b.text.Bytes()); m != nil && !b.found {
		b.found = true
		b.listening <- string(m[1])
	}
	return len(p), nil
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// counts are what a page has for an address.
type counts struct{ receiveBytes, transmitBytes, receivePackets, transmitPackets int64 }

func (c *counts) field(direction, unit string) *int64 {
	switch direction + unit {
	case "receivebytes":
		return &c.receiveBytes
	case "transmitbytes":
		return &c.transmitBytes
	case "receivepackets":
		return &c.receivePackets
	}
	return &c.transmitPackets
}

var hostLine = regexp.MustCompile(`(?m)^promflow_(receive|transmit)_(bytes|packets)_total\{ip="([^"]+)"\} (\S+)$`)

// hosts reads the addresses of a page.
func hosts(t *testing.T, page string) map[string]counts {
	t.Helper()
	all := map[string]counts{}
	for _, m := range hostLine.FindAllStringSubmatch(page, -1) {
		v, err := strconv.ParseFloat(m[4], 64)
		if err != nil {
			t.Fatalf("%s: %v", m[0], err)
		}
		c := all[m[3]]
		*c.field(m[1], m[2]) = int64(v)
		all[m[3]] = c
	}
	return all
}

// sample reads one series of a page.
func sample(t *testing.T, page, series string) float64 {
	t.Helper()
	m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(series) + ` (\S+)$`).FindStringSubmatch(page)
	if m == nil {
		t.Fatalf("no %s on the page:\n%s", series, page)
	}
	v, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// eventually polls until check finds nothing wrong.
func eventually(t *testing.T, check func() error) {
	t.Helper()
	for end := time.Now().Add(deadline); ; time.Sleep(20 * time.Millisecond) {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// same compares what is counted.
func same(got, want map[string]counts) error {
	for ip, w := range want {
		if got[ip] != w {
			return fmt.Errorf("%s has %+v, want %+v", ip, got[ip], w)
		}
	}
	for ip, g := range got {
		if _, ok := want[ip]; !ok {
			return fmt.Errorf("%s has %+v, want nothing", ip, g)
		}
	}
	return nil
}

package e2e

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"promflow/app"
)

// beProgram makes the test binary be promflow, so that tests run the real program as a process of its own.
const beProgram = "PROMFLOW_TEST_BE_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(beProgram) != "" {
		os.Unsetenv(beProgram)
		os.Exit(app.Main(os.Args))
	}
	for _, v := range os.Environ() { // the machine's own settings are not for the tests
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "OTEL_") || strings.HasPrefix(name, "PROMFLOW_") {
			os.Unsetenv(name)
		}
	}
	// With the race detector, a program would sleep for a second before it ends (https://go.dev/doc/articles/race_detector).
	os.Setenv("GORACE", os.Getenv("GORACE")+" atexit_sleep_ms=0")
	os.Exit(m.Run())
}

// more has tests that do the same again and again do so more often, for those who have the time.
var more = flag.Int("more", 1, "how many times as many clients, reloads of a flooded program and interfaces that come and go there are")

// deadline is how long anything may take on a busy machine before a test is lost. PROMFLOW_TEST_DEADLINE is for an emulated one.
var deadline = func() time.Duration {
	if d, err := time.ParseDuration(os.Getenv("PROMFLOW_TEST_DEADLINE")); err == nil {
		return d
	}
	return 30 * time.Second
}()

// self is the test binary.
func self(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// promflow prepares the program to run.
func promflow(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(self(t), args...)
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

// logBuffer keeps a program's log and finds its address in there.
type logBuffer struct {
	mu        sync.Mutex
	text      bytes.Buffer
	listening chan string
	found     bool
}

var listeningOn = regexp.MustCompile(`msg"?[=:]"Listening on"[ ,]"?address"?[=:]"?([^\s"]+)`)

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
	_, rest, found := strings.Cut("\n"+page, "\n"+series+" ")
	if !found {
		t.Fatalf("no %s on the page:\n%s", series, page)
	}
	value, _, _ := strings.Cut(rest, "\n")
	v, err := strconv.ParseFloat(value, 64)
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

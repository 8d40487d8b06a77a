package e2e

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"promflow/app/live"
	"promflow/capture/nettest"
)

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

// inside prepares the program to run in a network namespace.
func inside(t *testing.T, ns *nettest.Namespace, args ...string) *exec.Cmd {
	t.Helper()
	cmd := ns.Command(append([]string{self(t)}, args...)...)
	cmd.Env = append(os.Environ(), beProgram+"=1")
	return cmd
}

// serve starts the program with a port of the system's choice unless args have one, and waits until it serves. The test's end kills it.
func serve(t *testing.T, ns *nettest.Namespace, args ...string) *program {
	t.Helper()
	if !slices.ContainsFunc(args, func(arg string) bool { return strings.HasPrefix(arg, "--metrics-address=") }) {
		args = append([]string{"--metrics-address=127.0.0.1:0"}, args...)
	}
	return start(t, ns, inside(t, ns, args...)).listening()
}

// programs are a promflow for each backend, by the backend's name.
type programs map[string]*program

// serveEach is serve with every backend, to see the same packets.
func serveEach(t *testing.T, ns *nettest.Namespace, args ...string) programs {
	t.Helper()
	return serveBackends(t, ns, live.Backends(), args...)
}

// serveOnEthernet is serveEach for interfaces with an Ethernet header, which further backends need.
func serveOnEthernet(t *testing.T, ns *nettest.Namespace, args ...string) programs {
	t.Helper()
	return serveBackends(t, ns, slices.Concat(live.Backends(), live.OnRequest()), args...)
}

func serveBackends(t *testing.T, ns *nettest.Namespace, backends []string, args ...string) programs {
	t.Helper()
	all := programs{}
	for _, backend := range backends {
		all[backend] = start(t, ns, inside(t, ns, append([]string{"--metrics-address=127.0.0.1:0", "--capture=" + backend}, args...)...))
	}
	for _, p := range all {
		p.listening()
	}
	return all
}

// agree waits until the page of each has what is wanted.
func (all programs) agree(t *testing.T, wanted func() (map[string]counts, error)) {
	t.Helper()
	eventually(t, func() error {
		want, err := wanted()
		if err != nil {
			return err
		}
		for backend, p := range all {
			if e := same(hosts(t, p.get("/metrics")), want); e != nil {
				err = errors.Join(err, fmt.Errorf("%s: %w", backend, e))
			}
		}
		return err
	})
}

// start starts the program that cmd is.
func start(t *testing.T, ns *nettest.Namespace, cmd *exec.Cmd) *program {
	t.Helper()
	p := &program{t: t, cmd: cmd, log: &logBuffer{listening: make(chan string, 1)}, ended: make(chan struct{})}
	p.client = &http.Client{Timeout: deadline, Transport: &http.Transport{DialContext: ns.Dial}}
	p.cmd.Stderr = p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.err = p.cmd.Wait(); close(p.ended) }()
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		<-p.ended
		p.client.CloseIdleConnections()
		if t.Failed() {
			t.Logf("promflow's log:\n%s", p.log)
		}
	})
	return p
}

// listening waits until the program says where it serves.
func (p *program) listening() *program {
	p.t.Helper()
	select {
	case p.address = <-p.log.listening:
	case <-p.ended:
		p.t.Fatalf("promflow ended at its start: %v\n%s", p.err, p.log)
	case <-time.After(deadline):
		p.t.Fatal("promflow does not serve")
	}
	return p
}

// get fetches a page.
func (p *program) get(path string) string {
	p.t.Helper()
	body, err := p.try(path)
	if err != nil {
		p.t.Fatal(err)
	}
	return body
}

// try fetches a page, if there is one.
func (p *program) try(path string) (string, error) {
	return p.fetch("http://" + p.address + path)
}

// fetch is try for a server that the program's namespace reaches.
func (p *program) fetch(url string) (string, error) {
	response, err := p.client.Get(url)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s, %v: %s", url, response.Status, err, body)
	}
	return string(body), nil
}

// terminate asks the program to end, waits, and returns how long that took. Its status must be 0.
func (p *program) terminate() time.Duration {
	p.t.Helper()
	return p.end(syscall.SIGTERM)
}

// end is terminate with a signal of choice.
func (p *program) end(signal os.Signal) time.Duration {
	p.t.Helper()
	begin := time.Now()
	if err := p.cmd.Process.Signal(signal); err != nil {
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

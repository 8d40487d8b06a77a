package e2e

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"promflow/capture/nettest"
	"promflow/telemetry/otlp/otlptest"
)

const collectorExample = "../../examples/otel-collector"

// needCollector skips the test, or fails it in CI, unless there is a collector.
func needCollector(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("otelcol-promflow"); err != nil {
		nettest.Lacks(t, "the program otelcol-promflow, which is built as examples/otel-collector says")
	}
}

// startCollector starts an OpenTelemetry collector with files of examples/otel-collector or yaml:..., in a namespace of its own: it has the
// ports of the example.
func startCollector(t *testing.T, ns *nettest.Namespace, env []string, of ...string) *server {
	t.Helper()
	c := &server{ns: ns, ready: "Everything is ready.", env: append(env, "GOGC=400")} // making its page takes less time
	c.command = []string{"otelcol-promflow"}
	for _, name := range of {
		if !strings.HasPrefix(name, "yaml:") {
			name = filepath.Join(collectorExample, name)
		}
		c.command = append(c.command, "--config="+name)
	}
	c.start(t)
	return c
}

// server is another program than promflow, which may end and start again.
type server struct {
	ns      *nettest.Namespace
	env     []string
	command []string
	ready   string // what it prints once it serves
	cmd     *exec.Cmd
}

// start starts the server and waits until it serves. The test's end kills it.
func (s *server) start(t *testing.T) {
	t.Helper()
	ready := newLineWaiter(s.ready)
	s.cmd = s.ns.Command(s.command...)
	s.cmd.Env = append(os.Environ(), s.env...)
	s.cmd.Stdout, s.cmd.Stderr = ready, ready
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.kill)
	ready.wait(t)
}

// kill ends the server without giving it a chance to do anything.
func (s *server) kill() {
	s.cmd.Process.Kill()
	s.cmd.Wait()
}

// terminate asks the server to end, and waits.
func (s *server) terminate(t *testing.T) {
	t.Helper()
	s.signal(t, syscall.SIGTERM)
	if err := s.cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// signal stops the server, or lets it go on.
func (s *server) signal(t *testing.T, signal os.Signal) {
	t.Helper()
	if err := s.cmd.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
}

// instance is the instance label of a promflow's series at the collector.
func (p *program) instance() string {
	p.t.Helper()
	host, err := os.Hostname()
	if err != nil {
		p.t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(p.address)
	if err != nil {
		p.t.Fatal(err)
	}
	return net.JoinHostPort(host, port)
}

// linesOf gives the lines of a page, in order, that have one of the names in them.
func linesOf(page string, names ...string) (lines []string) {
	for line := range strings.Lines(page) {
		if slices.ContainsFunc(names, func(name string) bool { return strings.Contains(line, name) }) {
			lines = append(lines, line)
		}
	}
	slices.Sort(lines)
	return lines
}

// sameLines tells where two pages differ.
func sameLines(got, want []string) error {
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			return fmt.Errorf("got %q, want %q", got[i], want[i])
		}
	}
	if len(got) != len(want) {
		return fmt.Errorf("got %d lines, want %d", len(got), len(want))
	}
	return nil
}

// pushedLines gives the lines of a page that are about what is pushed. Those of the build are not, and the values of those of
// pushes differ from one push to the next.
func pushedLines(page string) []string {
	return slices.DeleteFunc(linesOf(page, "promflow_"), func(line string) bool {
		return strings.Contains(line, "promflow_build_info") || strings.HasPrefix(line, "promflow_export_")
	})
}

// linesAtCollector gives the lines of the collector's page that are about what promflow pushes, without job and instance.
func (p *program) linesAtCollector() []string {
	p.t.Helper()
	page, err := p.fetch("http://127.0.0.1:8889/metrics")
	if err != nil {
		p.t.Fatal(err)
	}
	instance, job := fmt.Sprintf(`instance="%s"`, p.instance()), `job="promflow"`
	page = strings.NewReplacer(
		"{"+instance+","+job+"}", "",
		","+instance+","+job+"}", "}",
		instance+",", "",
		job+",", "",
		","+job+"}", "}",
	).Replace(page)
	return pushedLines(page)
}

// sameAtCollector wants the collector's page to have just what promflow's own has, with job and instance as further labels.
func (p *program) sameAtCollector() {
	p.t.Helper()
	own := pushedLines(p.get("/metrics"))
	if err := sameLines(p.linesAtCollector(), own); err != nil {
		p.t.Errorf("the collector's page is not promflow's own: %v", err)
	}
}

// ring is the first hosts of 10.1.0.0/16, of which each sends to the next.
type ring struct {
	hosts  int
	sender *nettest.Sender
	frames [][]byte
	rounds int
}

func newRing(t *testing.T, ns *nettest.Namespace, device string, hosts int) *ring {
	t.Helper()
	addr := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 1, byte(i % hosts >> 8), byte(i % hosts)}) }
	r := &ring{hosts: hosts, sender: nettest.NewSender(t, ns, device)}
	for i := range hosts {
		r.frames = append(r.frames, nettest.UDP(addr(i), addr(i+1), r.size(i)))
	}
	return r
}

// size is what host i sends in a round.
func (r *ring) size(i int) int { return 60 + i%r.hosts%1000 }

func (r *ring) send() {
	r.sender.Send(r.frames...)
	r.rounds++
}

// counted tells whether a promflow has counted just what was sent.
func (r *ring) counted(p *program) error {
	p.t.Helper()
	page := p.get("/metrics")
	if got, want := sample(p.t, page, `promflow_capture_packets_total{interface="here",outcome="counted"}`), r.rounds*r.hosts; got != float64(want) {
		return fmt.Errorf("%v packets counted, want %d", got, want)
	}
	var want []string
	for i := range r.hosts {
		ip := fmt.Sprintf(`{ip="10.1.%d.%d"}`, i>>8, i&0xff)
		want = append(want,
			fmt.Sprintf("promflow_receive_bytes_total%s %d\n", ip, r.rounds*r.size(i+r.hosts-1)),
			fmt.Sprintf("promflow_transmit_bytes_total%s %d\n", ip, r.rounds*r.size(i)))
	}
	slices.Sort(want)
	return sameLines(linesOf(page, "promflow_receive_bytes_total{", "promflow_transmit_bytes_total{"), want)
}

// pushes is what a page says of a promflow's pushes.
type pushes struct {
	failures, lastSuccess float64
	lines                 int // of the log that are about them
}

func (p *program) pushes() pushes {
	p.t.Helper()
	page := p.get("/metrics")
	return pushes{
		failures:    sample(p.t, page, `promflow_export_failures_total{exporter="otlp"}`),
		lastSuccess: sample(p.t, page, `promflow_export_last_success_timestamp_seconds{exporter="otlp"}`),
	}
}

// failing waits until pushes fail, the last of them one that began after now, and one line says so.
func (p *program) failing() pushes {
	p.t.Helper()
	return p.failingSince(p.pushes())
}

func (p *program) failingSince(begin pushes) (now pushes) {
	p.t.Helper()
	eventually(p.t, func() error {
		if now = p.pushes(); now.failures < begin.failures+2 { // the first may have been under way
			return fmt.Errorf("%v pushes failed, %v before", now.failures, begin.failures)
		}
		return nil
	})
	lines := p.pushLines()
	if len(lines) == 0 || lines[len(lines)-1] != pushesFail {
		p.t.Errorf("pushes fail, and the log says %q", lines)
	}
	now.lines = len(lines)
	return now
}

// working waits until a line says that pushes work again.
func (p *program) working(before pushes) {
	p.t.Helper()
	eventually(p.t, func() error {
		if len(p.pushLines()) == before.lines {
			return errors.New("pushes still fail")
		}
		return nil
	})
	if now := p.pushes(); now.lastSuccess <= before.lastSuccess {
		p.t.Errorf("the last push arrived at %v, before at %v", now.lastSuccess, before.lastSuccess)
	}
}

const (
	pushesFail = "OTLP export fails"
	pushesWork = "OTLP export works again"
)

var pushLine = regexp.MustCompile(pushesFail + "|" + pushesWork)

// pushLines is what the log says of pushes: by turns that they fail and that they work again, and it has no other complaints.
func (p *program) pushLines() []string {
	p.t.Helper()
	log := p.log.String()
	lines := pushLine.FindAllString(log, -1)
	for i, line := range lines {
		if want := []string{pushesFail, pushesWork}[i%2]; line != want {
			p.t.Fatalf("the log says %q", lines)
		}
	}
	if others := strings.Count(log, "level=ERROR") + strings.Count(log, "level=WARN") - (len(lines)+1)/2; others != 0 {
		p.t.Errorf("the log has %d other complaints", others)
	}
	return lines
}

// scrapeTime is the median of how long some scrapes take.
func (p *program) scrapeTime() time.Duration {
	p.t.Helper()
	var took [5]time.Duration
	for i := range took {
		begin := time.Now()
		p.get("/metrics")
		took[i] = time.Since(begin)
	}
	slices.Sort(took[:])
	return took[len(took)/2]
}

// TestRealCollector has a collector that asks for TLS and a token get 65,536 addresses; it is killed and frozen, too.
func TestRealCollector(t *testing.T) {
	t.Parallel()
	needCollector(t)
	for _, c := range []struct {
		protocol, endpoint string
		hosts              int
	}{
		{"grpc", "https://127.0.0.1:4317", 1 << 16},
		{"http/protobuf", "https://127.0.0.1:4318", 1 << 12}, // to say it all twice takes minutes
	} {
		t.Run(c.protocol, func(t *testing.T) {
			t.Parallel()
			here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
			here.Veth("here", there, "there")
			ca := otlptest.NewAuthority(t)
			cert, key := ca.Issue(t, "collector", t.TempDir())
			collector := startCollector(t, here, []string{
				"COLLECTOR_CERT_FILE=" + cert, "COLLECTOR_KEY_FILE=" + key, "COLLECTOR_TOKEN_FILE=" + write(t, "tokens", "sesame\n"),
			}, "collector.yaml", "secure.yaml")
			headers := write(t, "headers", "authorization=Bearer%20barley\n")
			p := serve(t, here, "--interface=here", "--monitor-subnets=10.1.0.0/16", "--max-ips=65536", "--otlp-protocol="+c.protocol,
				"--otlp-endpoint="+c.endpoint, "--otlp-ca-file="+ca.File, "--otlp-headers-file="+headers, "--otlp-interval=1s", "--otlp-timeout=2s")
			p.client.Transport.(*http.Transport).DisableCompression = true // which takes longer than the page
			sent := newRing(t, there, "there", c.hosts)
			send := func() {
				t.Helper()
				sent.send()
				eventually(t, func() error { return sent.counted(p) })
			}

			send()
			refused := p.failing()
			if refused.lastSuccess != 0 {
				t.Errorf("a push arrived at %v, with a token that is not the collector's", refused.lastSuccess)
			}
			if err := os.WriteFile(headers, []byte("authorization=Bearer%20sesame\n"), 0o600); err != nil { // whose it was, it stays
				t.Fatal(err)
			}
			p.working(refused)

			collector.kill()
			send()
			down := p.failing()
			collector.start(t)
			p.working(down)
			p.sameAtCollector()

			usual := p.scrapeTime()
			collector.signal(t, syscall.SIGSTOP)
			send()
			begin := p.pushes()
			if took := p.scrapeTime(); took > 3*usual+time.Second/2 || took > 5*time.Second {
				t.Errorf("a scrape took %v while the collector was frozen, %v before", took, usual)
			}
			stuck := p.failingSince(begin)
			collector.signal(t, syscall.SIGCONT)
			p.working(stuck)
			p.sameAtCollector()
		})
	}
}

package telemetry_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"promflow/capture"
	"promflow/telemetry"
	"promflow/telemetry/page"
	"promflow/telemetry/telemetrytest"
)

// BenchmarkReaders compares the page with the text, for as many addresses as the table has room for by default.
func BenchmarkReaders(b *testing.B) {
	reading := telemetrytest.Hosts(65536)
	reader := func(name string, reading telemetry.Reading) {
		page := telemetrytest.Start(b, func() telemetry.Reading { return reading }, false)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				page.ServeHTTP(discard{}, httptest.NewRequest(http.MethodGet, "/metrics", nil))
			}
		})
	}
	reader("page", reading)
	withNames := reading
	withNames.Info = func(netip.Addr) telemetry.HostInfo {
		return telemetry.HostInfo{Hostname: "laptop.lan.example", MAC: "02:00:00:00:00:01"}
	}
	reader("page with names", withNames)
	b.Run("text", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := telemetry.WriteText(io.Discard, reading, false); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// discard is a response that nobody reads.
type discard struct{}

func (discard) Header() http.Header         { return http.Header{} }
func (discard) Write(b []byte) (int, error) { return len(b), nil }
func (discard) WriteHeader(code int) {
	if code != http.StatusOK {
		panic(fmt.Sprint("status ", code))
	}
}

// contenders are the pages that BenchmarkPage compares, each with the same series of n addresses.
var contenders = map[string]func(n int) (http.Handler, error){
	"promflow":   func(n int) (http.Handler, error) { return promflowPage(sliceReading(n)) },
	"with-table": func(n int) (http.Handler, error) { return promflowPage(tableReading(n)) },
	"CounterVec": counterVecPage,
}

// BenchmarkPage compares promflow's page with that of two CounterVecs of client_golang, the plain way to have a counter for each
// address. Each is served over HTTP by a process of its own, so that CPU time and memory are those of one, and is asked in turn,
// so that what else the machine does hits both. "promflow" reads a slice, "with-table" the table of package capture.
//
//   - ms/page: from the request to the last byte, of all scrapers that ask at once; the median.
//   - cpu-ms/page: user and system time of the server for one answer.
//   - peak-MB: the most that the server's process has ever had resident, from its start.
//   - body-bytes/page: as sent.
//   - times-one-scraper: how much longer several scrapers at once wait than one alone, who is measured in between.
//
// "promflow-to-CounterVec" has these as ratios: less than 1 is better than client_golang.
func BenchmarkPage(b *testing.B) {
	if _, err := os.Stat("/proc/self/status"); err != nil {
		b.Skip("needs /proc for the memory and CPU time of processes: ", err)
	}
	for _, c := range []pageCase{
		{addresses: 1, scrapers: 1, encoding: "identity", names: []string{"promflow", "CounterVec"}},
		{addresses: 65536, scrapers: 1, encoding: "identity", names: []string{"promflow", "with-table", "CounterVec"}},
		{addresses: 65536, scrapers: 1, encoding: "gzip", names: []string{"promflow", "CounterVec"}},
		{addresses: 65536, scrapers: 4, encoding: "identity", names: []string{"promflow", "CounterVec"}},
		{addresses: 65536, scrapers: 4, encoding: "gzip", names: []string{"promflow", "CounterVec"}},
		{addresses: 500_000, scrapers: 1, encoding: "identity", names: []string{"promflow", "CounterVec"}},
	} {
		b.Run(fmt.Sprintf("addresses=%d/scrapers=%d/%s", c.addresses, c.scrapers, c.encoding), func(b *testing.B) {
			figures := c.measure(b)
			for i, name := range c.names {
				b.Run(name, func(b *testing.B) { figures[i].report(b, "") })
			}
			b.Run("promflow-to-CounterVec", func(b *testing.B) {
				figures[0].dividedBy(figures[len(figures)-1]).report(b, "-ratio")
			})
		})
	}
}

// pageCase is what contenders are compared at.
type pageCase struct {
	addresses, scrapers int
	encoding            string
	names               []string // promflow first, CounterVec last
}

// figures are what was measured of a contender.
type figures struct {
	page, cpu, peak, body float64 // ms, ms, MB, bytes
	timesOne              float64 // 0 where there is one scraper
}

func (f figures) dividedBy(g figures) figures {
	return figures{page: f.page / g.page, cpu: f.cpu / g.cpu, peak: f.peak / g.peak, body: f.body / g.body}
}

func (f figures) report(b *testing.B, suffix string) {
	b.ReportMetric(0, "ns/op") // for the work was done before
	b.ReportMetric(f.page, "ms/page"+suffix)
	b.ReportMetric(f.cpu, "cpu-ms/page"+suffix)
	b.ReportMetric(f.peak, "peak-MB"+suffix)
	b.ReportMetric(f.body, "body-bytes/page"+suffix)
	if f.timesOne > 0 {
		b.ReportMetric(f.timesOne, "times-one-scraper")
	}
}

// measure asks the contenders in turn, until each has been measured for a second and often enough for a median.
func (c *pageCase) measure(b *testing.B) []figures {
	b.Helper()
	children := make([]*child, len(c.names))
	for i, name := range c.names {
		children[i] = startChild(b, name, c.addresses)
	}
	want := byAddress(children[0].scrape(b, "identity"))
	if n := strings.Count(want, "{ip="); n != 2*c.addresses {
		b.Fatalf("%d series, want 2 for each of %d addresses", n, c.addresses)
	}
	for _, child := range children[1:] { // which also warms all up
		if got := byAddress(child.scrape(b, "identity")); got != want {
			b.Fatalf("page of %s differs", child.name)
		}
	}
	times, alone := make([][]time.Duration, len(children)), make([][]time.Duration, len(children))
	cpu := make([]time.Duration, len(children))
	result := make([]figures, len(children))
	const least, enough = 5, time.Second
	for measured := time.Duration(0); len(times[0]) < least || measured < enough; {
		shortest := enough
		for i, child := range children {
			before := child.cpu(b)
			took := time.Duration(0)
			for range c.inRound() {
				once, size := child.scrapeAtOnce(b, c.scrapers, c.encoding)
				times[i] = append(times[i], once)
				took += once
				result[i].body = float64(size)
			}
			cpu[i] += child.cpu(b) - before
			if c.scrapers > 1 {
				once, _ := child.scrapeAtOnce(b, 1, c.encoding)
				alone[i] = append(alone[i], once)
			}
			shortest = min(shortest, took)
		}
		measured += shortest
	}
	for i, child := range children {
		r := &result[i]
		r.page = median(times[i])
		r.cpu = ms(cpu[i]) / float64(len(times[i])*c.scrapers)
		r.peak = child.peakMB(b)
		if c.scrapers > 1 {
			r.timesOne = r.page / median(alone[i])
		}
		child.stop(b)
	}
	return result
}

// median gives that of times, in milliseconds.
func median(times []time.Duration) float64 {
	slices.Sort(times)
	return ms(times[len(times)/2])
}

// inRound is how many pages a contender makes before it is the other's turn: several where they are small, as the kernel
// counts CPU time in hundredths of a second.
func (c *pageCase) inRound() int { return max(1, 200/c.addresses) }

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// child is a process that serves a page.
type child struct {
	name    string
	process *exec.Cmd
	stdin   io.Closer // the process ends when this closes, or its parent does
	url     string
	client  *http.Client
}

// childEnv has the contender and the number of addresses for a process of BenchmarkPage.
const childEnv = "PROMFLOW_TEST_SERVE_PAGE"

func startChild(b *testing.B, name string, addresses int) *child {
	b.Helper()
	executable, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	process := exec.Command(executable)
	process.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d", childEnv, name, addresses))
	process.Stderr = os.Stderr
	stdin, err := process.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := process.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := process.Start(); err != nil {
		b.Fatal(err)
	}
	c := &child{name: name, process: process, stdin: stdin, client: &http.Client{
		Transport: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 16}, // it keeps connections
	}}
	b.Cleanup(func() {
		c.client.CloseIdleConnections()
		stdin.Close()
		process.Wait() // again where it was stopped in good order
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		b.Fatalf("%s does not serve: %v", name, err)
	}
	c.url = "http://" + strings.TrimSpace(line)
	return c
}

// stop ends the process, and fails if it did not serve well.
func (c *child) stop(b *testing.B) {
	b.Helper()
	c.client.CloseIdleConnections()
	if err := errors.Join(c.stdin.Close(), c.process.Wait()); err != nil {
		b.Errorf("%s: %v", c.name, err)
	}
}

// get asks for a page once and gives all of it to w.
func (c *child) get(w io.Writer, encoding string) (int, error) {
	r, err := http.NewRequest(http.MethodGet, c.url, nil)
	if err != nil {
		return 0, err
	}
	r.Header.Set("Accept", "text/plain")
	r.Header.Set("Accept-Encoding", encoding)
	response, err := c.client.Do(r)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	n, err := io.Copy(w, response.Body)
	if got := response.Header.Get("Content-Encoding"); err == nil && (response.StatusCode != http.StatusOK || got != strings.TrimPrefix(encoding, "identity")) {
		err = fmt.Errorf("%s, Content-Encoding %q", response.Status, got)
	}
	return int(n), err
}

func (c *child) scrape(b *testing.B, encoding string) []byte {
	b.Helper()
	var page bytes.Buffer
	if _, err := c.get(&page, encoding); err != nil {
		b.Fatalf("%s: %v", c.name, err)
	}
	return page.Bytes()
}

// scrapeAtOnce has n scrapers ask at the same time, and gives the time until the last has its page, and the size of one.
func (c *child) scrapeAtOnce(b *testing.B, n int, encoding string) (time.Duration, int) {
	b.Helper()
	type answer struct {
		size int
		err  error
	}
	begin, answers := make(chan struct{}), make(chan answer, n)
	for range n {
		go func() {
			<-begin
			size, err := c.get(io.Discard, encoding)
			answers <- answer{size, err}
		}()
	}
	var errs []error
	size := 0
	start := time.Now()
	close(begin)
	for range n {
		a := <-answers
		size = a.size
		errs = append(errs, a.err)
	}
	took := time.Since(start)
	if err := errors.Join(errs...); err != nil {
		b.Fatalf("%s: %v", c.name, err)
	}
	return took, size
}

// proc reads a file of the process in /proc.
func (c *child) proc(b *testing.B, file string) string {
	b.Helper()
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", c.process.Process.Pid, file))
	if err != nil {
		b.Fatal(err)
	}
	return string(content)
}

// cpu is what the process has used so far. proc_pid_stat(5): fields 14 and 15 are user and system time in ticks, of which Linux
// has 100 a second for programs; the second field is a name in parentheses that may have anything in it.
func (c *child) cpu(b *testing.B) time.Duration {
	b.Helper()
	stat := c.proc(b, "stat")
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	ticks := 0
	for _, field := range fields[11:13] {
		n, err := strconv.Atoi(field)
		if err != nil {
			b.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// peakMB is the process's highest resident set so far, in 10^6 bytes.
func (c *child) peakMB(b *testing.B) float64 {
	b.Helper()
	_, after, _ := strings.Cut(c.proc(b, "status"), "VmHWM:")
	line, _, _ := strings.Cut(after, "\n")
	kib, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(line), " kB"))
	if err != nil {
		b.Skip("no VmHWM in /proc/PID/status: ", err)
	}
	return float64(kib) * 1024 / 1e6
}

// servedByChild serves a page until standard input ends, if this process was started for that.
func servedByChild() bool {
	name, addresses, ok := strings.Cut(os.Getenv(childEnv), " ")
	if !ok {
		return false
	}
	if err := serveChild(name, addresses); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return true
}

func serveChild(name, addresses string) error {
	n, err := strconv.Atoi(addresses)
	if err != nil {
		return err
	}
	page, err := contenders[name](n)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s := http.Server{Handler: page}
	go s.Serve(listener) // until Close
	fmt.Println(listener.Addr())
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	return s.Close()
}

func promflowPage(read func() telemetry.Reading) (http.Handler, error) {
	log := slog.New(slog.DiscardHandler)
	page, err := page.New(telemetry.NewSource(read, false), log)
	if err != nil {
		return nil, err
	}
	telemetry.New("", log, page)
	return page, nil
}

// sliceReading has nothing but addresses in it, as the other contender.
func sliceReading(n int) func() telemetry.Reading {
	all := telemetrytest.Hosts(n).Hosts
	return func() telemetry.Reading { return telemetry.Reading{Hosts: all} }
}

// tableReading reads the table that the program counts in.
func tableReading(n int) func() telemetry.Reading {
	table := capture.NewTable(n, 0)
	counter := capture.NewCounter(table)
	counter.Lock()
	for h := range telemetrytest.Hosts(n).Hosts {
		counter.Add(h.Addr, capture.Totals{ReceiveBytes: h.ReceiveBytes, TransmitBytes: h.TransmitBytes})
	}
	counter.Unlock()
	return func() telemetry.Reading {
		hosts := table.Snapshot().Hosts
		return telemetry.Reading{Hosts: func(yield func(telemetry.Host) bool) {
			for i := range hosts {
				h := &hosts[i]
				if !yield(telemetry.Host{Addr: h.Addr, ReceiveBytes: h.ReceiveBytes, TransmitBytes: h.TransmitBytes}) {
					return
				}
			}
		}}
	}
}

func counterVecPage(n int) (http.Handler, error) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	vector := func(direction, did string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "promflow_" + direction + "_bytes_total",
			Help: "Network-layer bytes " + did + " by an IP address in the monitored subnets.",
		}, []string{"ip"})
		registry.MustRegister(v)
		return v
	}
	receive, transmit := vector("receive", "received"), vector("transmit", "transmitted")
	for h := range telemetrytest.Hosts(n).Hosts {
		ip := h.Addr.String()
		receive.WithLabelValues(ip).Add(float64(h.ReceiveBytes))
		transmit.WithLabelValues(ip).Add(float64(h.TransmitBytes))
	}
	return promhttp.InstrumentMetricHandler(registry, promhttp.HandlerFor(registry, promhttp.HandlerOpts{})), nil
}

// byAddress returns the lines of a page that both contenders have.
func byAddress(page []byte) string {
	var b strings.Builder
	for line := range strings.Lines(telemetrytest.Ours(string(page))) {
		if strings.Contains(line, "_bytes_total") {
			b.WriteString(line)
		}
	}
	return b.String()
}

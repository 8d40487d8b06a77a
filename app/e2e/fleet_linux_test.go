package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"promflow/capture/nettest"
)

// member is one promflow of many, on an interface of its own.
type member struct {
	*program
	args   []string
	sender *nettest.Sender
	number int
	sent   map[string]counts
}

// start starts the promflow, whose port is always the same, and its instance with it.
func (m *member) start(t *testing.T, ns *nettest.Namespace) {
	m.program = start(t, ns, inside(t, ns, m.args...))
}

func (m *member) port() string { return fmt.Sprint(20000 + m.number) }

// send sends between hosts that every member has, but as many bytes as with no other.
func (m *member) send() {
	for i := range 5 {
		from, to := netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)})
		size := 100 + 25*m.number + i
		m.sender.Send(nettest.UDP(from, to, size))
		c := m.sent[from.String()]
		c.transmitBytes += int64(size)
		m.sent[from.String()] = c
		c = m.sent[to.String()]
		c.receiveBytes += int64(size)
		m.sent[to.String()] = c
	}
}

type fleet [50]*member

// startFleet starts promflows that push to a collector in their namespace.
func startFleet(t *testing.T, ns *nettest.Namespace) (f fleet) {
	there := nettest.NewNamespace(t)
	for i := range f {
		device := fmt.Sprint("e", i)
		ns.Veth(device, there, device)
		m := &member{number: i, sender: nettest.NewSender(t, there, device), sent: map[string]counts{}}
		m.args = []string{"--metrics-address=127.0.0.1:" + m.port(), "--interface=" + device, "--monitor-subnets=10.0.0.0/24",
			"--otlp-endpoint=127.0.0.1:4317", "--otlp-interval=2s"}
		if i == remembers {
			m.args = append(m.args, "--data-dir="+t.TempDir())
		}
		m.start(t, ns)
		f[i] = m
	}
	for _, m := range f {
		m.listening()
	}
	return f
}

// Members that end.
const (
	remembers = iota // its totals
	forgets          // since it remembers none
	leaves           // for good
)

func (f fleet) send() {
	for _, m := range f {
		if m.program != nil {
			m.send()
		}
	}
}

// arrived waits until a store has what was sent, of each member and address and altogether. The query is one for a metric.
func (f fleet) arrived(t *testing.T, store prometheusServer, query string) {
	t.Helper()
	for _, direction := range []string{"receive", "transmit"} {
		want, sum := map[string]float64{}, 0.0
		for _, m := range f {
			for ip, c := range m.sent {
				if n := *c.field(direction, "bytes"); n > 0 {
					want[m.port()+" "+ip] = float64(n)
					sum += float64(n)
				}
			}
		}
		query := fmt.Sprintf(query, "promflow_"+direction+"_bytes_total")
		eventually(t, func() error {
			if got := store.query(t, f[remembers].program, "sum("+query+")"); got[""] != sum {
				return fmt.Errorf("%s has %v of sum(%s), want %v", store.address, got[""], query, sum)
			}
			got := map[string]float64{}
			for series, v := range store.query(t, f[remembers].program, "sum by (instance, ip) ("+query+")", "instance", "ip") {
				_, series, _ = strings.Cut(series, ":") // the host differs: promflow names its own, and Prometheus the one that it scrapes
				got[series] = v
			}
			for series, v := range want {
				if got[series] != v {
					return fmt.Errorf("%s has %v of %s of %s, want %v", store.address, got[series], query, series, v)
				}
			}
			if len(got) != len(want) {
				return fmt.Errorf("%s has %d series of %s, want %d", store.address, len(got), query, len(want))
			}
			return nil
		})
	}
}

// startVictoriaMetrics starts a store. What it has been given can be asked for at once.
func startVictoriaMetrics(t *testing.T, ns *nettest.Namespace, address string) *server {
	t.Helper()
	s := &server{ns: ns, ready: "started server at", command: []string{"victoria-metrics", "-httpListenAddr=" + address,
		"-storageDataPath=" + t.TempDir(), "-search.latencyOffset=0s", "-search.disableCache"}}
	s.start(t)
	return s
}

// startPrometheusAgent starts a Prometheus that scrapes a fleet, with the configuration of the example.
func startPrometheusAgent(t *testing.T, ns *nettest.Namespace, f fleet, url string) *server {
	t.Helper()
	config, err := os.ReadFile("../../examples/prometheus/agent.yml")
	if err != nil {
		t.Fatal(err)
	}
	var targets []string
	for _, m := range f {
		targets = append(targets, fmt.Sprintf("%q", m.address))
	}
	own := string(config)
	for pattern, with := range map[string]string{
		`scrape_interval: .*`: "scrape_interval: 2s",
		`targets: .*`:         "targets: [" + strings.Join(targets, ", ") + "]",
		`url: .*`:             "url: " + url + "\n    queue_config: {batch_send_deadline: 1s}",
	} {
		own = regexp.MustCompile(pattern).ReplaceAllString(own, with)
	}
	s := &server{ns: ns, ready: "Server is ready to receive web requests", command: []string{"prometheus", "--agent",
		"--config.file=" + write(t, "agent.yml", own), "--storage.agent.path=" + t.TempDir(), "--web.listen-address=127.0.0.1:9091"}}
	s.start(t)
	return s
}

// TestFleet has the counts of many promflows go to stores on the two ways of the examples: pushed to a collector that hands them on by remote
// write and on its page, and scraped by a Prometheus in agent mode. Each part ends and starts again while packets are sent. Not one
// byte may be lost.
func TestFleet(t *testing.T) {
	t.Parallel()
	needCollector(t)
	nettest.Need(t, "prometheus", "victoria-metrics")
	const pushed, scraped = "127.0.0.1:8428", "127.0.0.1:8429"
	here := nettest.NewNamespace(t)
	pushedTo, scrapedTo := startVictoriaMetrics(t, here, pushed), startVictoriaMetrics(t, here, scraped)
	collector := startCollector(t, here, []string{"REMOTE_WRITE_URL=http://" + pushed + "/api/v1/write", "REMOTE_WRITE_WAL=" + t.TempDir()},
		"collector.yaml", "remote-write.yaml", "wal.yaml",
		"yaml:service::pipelines::metrics::exporters: [prometheus, prometheus_remote_write]") // keeps the page
	f := startFleet(t, here)
	agent := startPrometheusAgent(t, here, f, "http://"+scraped+"/api/v1/write")
	agree := func() {
		t.Helper()
		for _, store := range []string{pushed, scraped} {
			f.arrived(t, prometheusServer{address: store}, "increase_pure(%s[1h])")
		}
	}
	for range 3 {
		f.send()
	}
	agree()
	config, err := os.ReadFile(filepath.Join(collectorExample, "prometheus.yml"))
	if err != nil {
		t.Fatal(err)
	}
	page := startPrometheus(t, here, strings.Replace(string(config), "scrape_interval: 10s", "scrape_interval: 1s", 1))
	f.arrived(t, page, "%s")

	f[remembers].send() // perhaps between the last scrape and the end
	for _, m := range f[:leaves] {
		m.terminate()
		m.start(t, here)
		m.listening()
	}
	f.send()
	agree()

	collector.kill()
	agent.kill()
	f.send()
	collector.start(t)
	agent.start(t)
	agree()

	pushedTo.terminate(t)
	f.send()
	f.arrived(t, prometheusServer{address: scraped}, "increase_pure(%s[1h])") // or nobody would scrape what the next one had
	f[leaves].terminate()                                                     // its last totals are in the collector's log until there is a store
	f[leaves].program = nil
	collector.terminate(t)
	scrapedTo.terminate(t)
	f.send()
	collector.start(t)
	pushedTo.start(t)
	scrapedTo.start(t)
	agree()
}

package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"promflow/capture/nettest"
)

// release is an installed Prometheus.
type release struct{ version, folder string }

// releases gives the Prometheus of each folder of PATH. Tests that take long run the first: .ci/run has the newest there, ahead of
// Debian's. Without any, the test is skipped.
var releases = func() func(t *testing.T) []release {
	find := sync.OnceValue(func() (all []release) {
		version := regexp.MustCompile(`version ([0-9]+\.[0-9]+\.[0-9]+)`)
		for _, folder := range filepath.SplitList(os.Getenv("PATH")) {
			said, err := exec.Command(filepath.Join(folder, "prometheus"), "--version").CombinedOutput()
			if errors.Is(err, os.ErrNotExist) {
				continue
			}
			r := release{"unknown", folder}
			if found := version.FindSubmatch(said); found != nil {
				r.version = string(found[1])
			}
			if !slices.ContainsFunc(all, func(a release) bool { return a.version == r.version }) { // /bin may be /usr/bin
				all = append(all, r)
			}
		}
		return all
	})
	return func(t *testing.T) []release {
		t.Helper()
		nettest.Need(t, "prometheus", "promtool")
		return find()
	}
}()

// prometheus3 gives the first Prometheus, if it is of version 3.
func prometheus3(t *testing.T) release {
	t.Helper()
	first := releases(t)[0]
	if !strings.HasPrefix(first.version, "3.") {
		nettest.Lacks(t, "Prometheus 3, which is built as CONTRIBUTING.md says, first in PATH")
	}
	return first
}

// prometheusServer is a Prometheus in a namespace of its own.
type prometheusServer struct {
	release
	address string
}

// serve starts the release, with data of its own unless flags have some, and waits until it serves. The test's end kills it.
func (r release) serve(t *testing.T, ns *nettest.Namespace, address, config string, flags ...string) prometheusServer {
	t.Helper()
	const data = "--storage.tsdb.path="
	if !slices.ContainsFunc(flags, func(f string) bool { return strings.HasPrefix(f, data) }) {
		flags = append(flags, data+filepath.Join(t.TempDir(), "data"))
	}
	cmd := ns.Command(append([]string{filepath.Join(r.folder, "prometheus"), "--config.file=" + write(t, "prometheus.yml", config),
		"--web.listen-address=" + address}, flags...)...)
	ready := newLineWaiter("Server is ready to receive web requests")
	cmd.Stderr = ready
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	ready.wait(t)
	return prometheusServer{r, address}
}

// startPrometheus starts the first Prometheus.
func startPrometheus(t *testing.T, ns *nettest.Namespace, config string) prometheusServer {
	t.Helper()
	return releases(t)[0].serve(t, ns, "127.0.0.1:9090", config)
}

// startReleases starts each Prometheus that there is, in one namespace.
func startReleases(t *testing.T, ns *nettest.Namespace, config string) (all []prometheusServer) {
	t.Helper()
	for i, r := range releases(t) {
		all = append(all, r.serve(t, ns, fmt.Sprint("127.0.0.1:", 9090+i), config))
	}
	return all
}

// TestPrometheusRates has each Prometheus scrape the program while a generator sends at known rates, and asks the queries that the
// README gives.
func TestPrometheusRates(t *testing.T) {
	t.Parallel()
	here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
	here.Veth("here", there, "there")
	p := serve(t, here, "--interface=here", "--monitor-subnets=192.168.0.0/24", "--packets")

	// Six hosts, of which five are the top ones, talk to one that is not monitored, which sends half as much back.
	const size, least, seconds = 500, 20, 40
	var talkers []talker
	for i := range 6 {
		ip := netip.AddrFrom4([4]byte{192, 168, 0, byte(10 + i)})
		peer := netip.MustParseAddr("203.0.113.1")
		talkers = append(talkers,
			talker{ip.String(), "transmit", float64(2 * least * (i + 1)), nettest.UDP(ip, peer, size)},
			talker{ip.String(), "receive", float64(least * (i + 1)), nettest.UDP(peer, ip, size)})
	}
	servers := startReleases(t, here, scrapesPromflow(p.address))
	took := generate(nettest.NewSender(t, there, "there"), talkers, seconds*time.Second)

	for _, prometheus := range servers {
		t.Run(prometheus.version, func(t *testing.T) {
			for _, direction := range []string{"receive", "transmit"} {
				query := fmt.Sprintf(`topk(5, sum(rate(promflow_%s_bytes_total{ip=~"192.168.0.*"}[30s])) by (ip)) * 8`, direction)
				got := prometheus.query(t, p, query, "ip")
				if len(got) != 5 {
					t.Errorf("%s gives %v, want five hosts", query, got)
				}
				for _, talker := range talkers[2:] { // without the host that talks least
					if talker.direction != direction {
						continue
					}
					want := talker.perSecond * size * 8 * float64(seconds*time.Second) / float64(took)
					if bits := got[talker.ip]; math.Abs(bits-want) > 0.05*want {
						t.Errorf("%s gives %.0f bit/s for %s, want %.0f", query, bits, talker.ip, want)
					}
				}
			}

			check := here.Command(filepath.Join(prometheus.folder, "promtool"), "check", "metrics")
			check.Stdin = strings.NewReader(p.get("/metrics"))
			if out, err := check.CombinedOutput(); err != nil || len(bytes.TrimSpace(out)) > 0 {
				t.Errorf("promtool check metrics: %v: %s", err, out)
			}
		})
	}
}

// scrapesPromflow is a configuration.
func scrapesPromflow(address string) string {
	return fmt.Sprintf(`
global: {scrape_interval: 1s}
scrape_configs: [{job_name: promflow, static_configs: [{targets: ["%s"]}]}]
`, address)
}

// talker sends a frame so often.
type talker struct {
	ip, direction string
	perSecond     float64
	frame         []byte
}

// generate sends at the talkers' rates for a time, and returns how long it really took.
func generate(s *nettest.Sender, talkers []talker, total time.Duration) time.Duration {
	sent := make([]int, len(talkers))
	begin := time.Now()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for range ticker.C {
		elapsed := min(time.Since(begin), total)
		for i, talker := range talkers {
			for ; float64(sent[i]) < talker.perSecond*elapsed.Seconds(); sent[i]++ {
				s.Send(talker.frame)
			}
		}
		if elapsed == total {
			break
		}
	}
	return time.Since(begin)
}

// query asks for an instant vector and returns its values by what its series have for labels.
func (s prometheusServer) query(t *testing.T, p *program, query string, labels ...string) map[string]float64 {
	t.Helper()
	body, err := p.fetch("http://" + s.address + "/api/v1/query?query=" + url.QueryEscape(query))
	if err != nil {
		t.Fatal(err)
	}
	var answer struct {
		Data struct {
			Result []struct {
				Metric map[string]string
				Value  [2]any
			}
		}
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		t.Fatalf("%s: %v: %s", query, err, body)
	}
	values := map[string]float64{}
	for _, r := range answer.Data.Result {
		v, err := strconv.ParseFloat(r.Value[1].(string), 64)
		if err != nil {
			t.Fatalf("%s: %s", query, body)
		}
		var key []string
		for _, label := range labels {
			key = append(key, r.Metric[label])
		}
		values[strings.Join(key, " ")] = v
	}
	return values
}

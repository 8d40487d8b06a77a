package e2e

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"promflow/app/live"
	"promflow/capture/nettest"
)

// recipe is a query of Prometheus' example, and what it gives: a value for those of labels.
type recipe struct {
	query  string
	labels []string
	want   map[string]float64
}

// TestRecipes has a real Prometheus answer the recipes of its example, and the alert for a quota: those that look back for seconds
// with what the program counts, those that look back for a month with a month of the program's series.
func TestRecipes(t *testing.T) {
	t.Parallel()
	t.Run("written", func(t *testing.T) {
		var known []string
		for _, r := range append(recipesOfTraffic(), recipesOfMonth()...) {
			known = append(known, r.query)
		}
		written := append(readRecipes(t), readExpression(t, "PromflowOverQuota"))
		for _, query := range written {
			if !slices.Contains(known, query) {
				t.Errorf("no test knows what this gives:\n%s", query)
			}
		}
		for _, query := range known {
			if !slices.Contains(written, query) {
				t.Errorf("this is not in the example:\n%s", query)
			}
		}
	})
	for _, backend := range live.Backends() {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			askAboutTraffic(t, backend)
		})
	}
	t.Run("month", askAboutMonth)
}

// readRecipes gives the queries in the example's code blocks: each is a line, or several while a parenthesis is open.
func readRecipes(t *testing.T) (queries []string) {
	t.Helper()
	readme, err := os.ReadFile(filepath.Join("..", "..", "examples", "prometheus", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(readme), "\n## Recipes\n")
	if !found {
		t.Fatal("the example has no recipes")
	}
	if end := regexp.MustCompile(`(?m)^##`).FindStringIndex(section); end != nil {
		section = section[:end[0]]
	}
	for i, block := range strings.Split(section, "\n```") {
		if i%2 == 0 {
			continue
		}
		query, open := "", 0
		for _, line := range strings.Split(block, "\n")[1:] {
			query += line
			if open += strings.Count(line, "(") - strings.Count(line, ")"); open > 0 {
				query += "\n"
				continue
			}
			queries, query = append(queries, query), ""
		}
		if query != "" {
			t.Errorf("a recipe does not end:\n%s", query)
		}
	}
	return queries
}

// readExpression gives the expression of an alert of the example, which has several lines there.
func readExpression(t *testing.T, alert string) string {
	t.Helper()
	rules, err := os.ReadFile(filepath.Join("..", "..", "examples", "prometheus", "alerts.yml"))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`- alert: ` + alert + `\n +expr: \|\n((?: {10}.*\n)+)`).FindSubmatch(rules)
	if found == nil {
		t.Fatalf("the example has no expression for %s", alert)
	}
	return strings.TrimSpace(strings.ReplaceAll(string(found[1]), "\n          ", "\n"))
}

// ask asks a recipe's query, whose results must be those that are wanted, within a tolerance, and no others.
func (s prometheusServer) ask(t *testing.T, p *program, r recipe, at, tolerance float64) {
	t.Helper()
	got, err := s.instant(p, r.query, at, r.labels...)
	if err != nil {
		t.Errorf("%s\n%v", r.query, err)
		return
	}
	for key, want := range r.want {
		if v, ok := got[key]; !ok || math.Abs(v-want) > tolerance*want {
			t.Errorf("%s\ngives %v for %q, want %v", r.query, v, key, want)
		}
	}
	for key, v := range got {
		if _, ok := r.want[key]; !ok {
			t.Errorf("%s\ngives %v for %q, want nothing", r.query, v, key)
		}
	}
}

// instant asks for an instant vector at a time, in seconds of Unix' epoch, and returns its values by those of labels, which must be
// all that its series have.
func (s prometheusServer) instant(p *program, query string, at float64, labels ...string) (map[string]float64, error) {
	body, err := p.fetch("http://" + s.address + "/api/v1/query?" +
		url.Values{"query": {query}, "time": {strconv.FormatFloat(at, 'f', 3, 64)}}.Encode())
	if err != nil {
		return nil, err
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
		return nil, fmt.Errorf("%w: %s", err, body)
	}
	values := map[string]float64{}
	for _, r := range answer.Data.Result {
		var key []string
		for _, label := range labels {
			key = append(key, r.Metric[label])
		}
		if len(r.Metric) != len(labels) {
			return nil, fmt.Errorf("a result has %v, want the labels %v", r.Metric, labels)
		}
		text, _ := r.Value[1].(string)
		if values[strings.Join(key, " ")], err = strconv.ParseFloat(text, 64); err != nil {
			return nil, fmt.Errorf("%w: %s", err, body)
		}
	}
	return values, nil
}

// What is sent for recipes, in packets of 1000 bytes.
const (
	recipeSubnets = "--monitor-subnets=lan=192.168.1.0/24,iot=192.168.2.0/24,lan=fd00:1::/64"
	recipePeers   = "--peer-subnets=vpn=10.8.0.0/16"
	recipeLabels  = "--labels=network,peer,protocol,interface,vlan"
)

var recipeTraffic = []struct {
	from, to string
	protocol byte
	packets  int
}{
	{"203.0.113.1", "192.168.1.10", unix.IPPROTO_TCP, 160},
	{"192.168.1.10", "203.0.113.1", unix.IPPROTO_TCP, 20},
	{"203.0.113.1", "192.168.1.11", unix.IPPROTO_UDP, 80},
	{"203.0.113.1", "192.168.1.12", unix.IPPROTO_TCP, 3},
	{"192.168.2.20", "203.0.113.1", unix.IPPROTO_ICMP, 40},
	{"2001:db8::1", "fd00:1::10", unix.IPPROTO_ICMPV6, 70},
	{"192.168.1.10", "10.8.0.5", unix.IPPROTO_UDP, 60},
	{"10.8.0.5", "192.168.1.10", unix.IPPROTO_TCP, 30},
	{"10.8.0.5", "192.168.2.20", unix.IPPROTO_UDP, 15},
	{"192.168.1.10", "192.168.1.11", unix.IPPROTO_TCP, 50},
	{"192.168.2.20", "192.168.1.10", unix.IPPROTO_UDP, 10},
	{"192.168.1.11", "224.0.0.251", unix.IPPROTO_UDP, 5},
	{"192.168.1.11", "192.168.1.255", unix.IPPROTO_UDP, 7},
}

// recipesOfTraffic gives what recipes find in that, in bits per second of half a minute.
func recipesOfTraffic() []recipe {
	recipes := []recipe{
		{`sum by (ip) (rate(promflow_receive_bytes_total{peer="external"}[30s])) * 8`, []string{"ip"},
			map[string]float64{"192.168.1.10": 160, "192.168.1.11": 80, "192.168.1.12": 3, "fd00:1::10": 70}},
		{`sum by (ip) (rate(promflow_transmit_bytes_total{peer="external"}[30s])) * 8`, []string{"ip"},
			map[string]float64{"192.168.1.10": 20, "192.168.2.20": 40}},
		{`sum by (protocol) (rate(promflow_receive_bytes_total{peer="external"}[30s])) * 8`, []string{"protocol"},
			map[string]float64{"tcp": 160 + 3, "udp": 80, "icmp": 70}},
		{`sum by (protocol) (rate(promflow_transmit_bytes_total{peer="external"}[30s])) * 8`, []string{"protocol"},
			map[string]float64{"tcp": 20, "icmp": 40}},
		{`sum by (network) (rate(promflow_receive_bytes_total[30s])) * 8`, []string{"network"},
			map[string]float64{"lan": 160 + 80 + 3 + 70 + 30 + 50 + 10 + 7, "iot": 15}},
		{`sum by (network) (rate(promflow_transmit_bytes_total[30s])) * 8`, []string{"network"},
			map[string]float64{"lan": 20 + 60 + 50 + 5 + 7, "iot": 40 + 10}},
		{`sum by (network, peer) (rate(promflow_transmit_bytes_total[30s])) * 8`, []string{"network", "peer"},
			map[string]float64{
				"lan external": 20, "lan vpn": 60, "lan lan": 50, "lan multicast": 5 + 7, "iot external": 40, "iot lan": 10}},
		{`sum by (network, peer) (rate(promflow_receive_bytes_total[30s])) * 8`, []string{"network", "peer"},
			map[string]float64{
				"lan external": 160 + 80 + 3 + 70, "lan vpn": 30, "lan lan": 50 + 7, "lan iot": 10, "iot vpn": 15}},
		{`sum(rate(promflow_transmit_bytes_total{network="lan", peer="vpn"}[30s])) * 8`, nil,
			map[string]float64{"": 60}},
		{`topk(5, sum by (ip) (rate(promflow_receive_bytes_total[30s]))) * 8`, []string{"ip"}, // all but 192.168.1.12
			map[string]float64{
				"192.168.1.10": 160 + 30 + 10, "192.168.1.11": 80 + 50, "fd00:1::10": 70, "192.168.2.20": 15, "192.168.1.255": 7}},
		{`topk(5, sum by (ip) (rate(promflow_transmit_bytes_total[30s]))) * 8`, []string{"ip"},
			map[string]float64{"192.168.1.10": 20 + 60 + 50, "192.168.1.11": 5 + 7, "192.168.2.20": 40 + 10}},
	}
	for _, r := range recipes {
		for key := range r.want {
			r.want[key] *= 1000 * 8 / 30.
		}
	}
	return recipes
}

func askAboutTraffic(t *testing.T, backend string) {
	here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
	here.Veth("here", there, "there")
	p := serve(t, here, "--interface=here", "--capture="+backend, recipeLabels, recipeSubnets, recipePeers)
	servers := startReleases(t, here, scrapesPromflow(p.address))
	for i, at := range seeTraffic(t, p, nettest.NewSender(t, there, "there"), servers...) {
		t.Run(servers[i].version, func(t *testing.T) {
			for _, r := range recipesOfTraffic() {
				servers[i].ask(t, p, r, at, 0.05)
			}
		})
	}
}

// seeTraffic sends the traffic to the program's interface, and gives when each Prometheus has scraped all of it.
func seeTraffic(t *testing.T, p *program, sender *nettest.Sender, servers ...prometheusServer) (at []float64) {
	t.Helper()
	// scraped gives when each took a page that has so many packets.
	scraped := func(packets int) []float64 {
		eventually(t, func() error {
			const counted = `promflow_capture_packets_total{interface="here",outcome="counted"}`
			if got := sample(t, p.get("/metrics"), counted); got != float64(packets) {
				return fmt.Errorf("%v packets are counted, want %d", got, packets)
			}
			return nil
		})
		complete := float64(time.Now().UnixMilli()) / 1000
		at := make([]float64, len(servers))
		for i, s := range servers {
			eventually(t, func() error {
				if at[i] = s.query(t, p, "max(timestamp(promflow_receive_bytes_total))")[""]; at[i] <= complete {
					return fmt.Errorf("Prometheus %s does not scrape", s.version)
				}
				return nil
			})
		}
		return at
	}
	send := func(from, to string, protocol byte, size, packets int) {
		f := nettest.UDP(netip.MustParseAddr(from), netip.MustParseAddr(to), size)
		if strings.Contains(from, ":") {
			f[14+6] = protocol // next header
		} else {
			f[14+9] = protocol
		}
		for range packets {
			sender.Send(f)
		}
	}
	packets := 0
	for _, c := range recipeTraffic { // A rate has to see a series before it grows.
		send(c.from, c.to, c.protocol, 48, 1)
		packets++
	}
	scraped(packets)
	for _, c := range recipeTraffic {
		send(c.from, c.to, c.protocol, 1000, c.packets)
		packets += c.packets
	}
	send("10.8.0.5", "203.0.113.1", unix.IPPROTO_UDP, 1000, 90) // unmonitored
	return scraped(packets)                                     // where nothing is left to extrapolate
}

// A month of rates: each repeats every day, where it rises or falls by the same step every 5 minutes. So 95 % of the time it is
// below 95 % of its greatest value, which is twice the mean.
const (
	rateStep       = 5 * time.Minute
	stepsPerDay    = int(24 * time.Hour / rateStep)
	samplesPerStep = 2 // a rate over one step needs two
	billedMonth    = 30 * 24 * time.Hour
)

// recipeMonth is what addresses move in a month, in GB.
var recipeMonth = []struct {
	from, to          string
	transmit, receive volume // of from with to, and of to with from; 0 where that end is not monitored
}{
	{"203.0.113.1", "192.168.1.10", volume{}, volume{gigabytes: 80}},
	{"192.168.1.10", "203.0.113.1", volume{gigabytes: 30}, volume{}},
	{"203.0.113.1", "192.168.1.11", volume{}, volume{gigabytes: 60, falls: true}},
	{"192.168.1.11", "203.0.113.1", volume{gigabytes: 35, falls: true}, volume{}},
	{"203.0.113.1", "192.168.1.12", volume{}, volume{gigabytes: 101}}, // never answers
	{"203.0.113.1", "192.168.2.20", volume{}, volume{gigabytes: 10}},
	{"192.168.2.20", "203.0.113.1", volume{gigabytes: 50}, volume{}},
	{"192.168.1.11", "10.8.0.5", volume{gigabytes: 200}, volume{}},
	{"192.168.1.11", "192.168.1.10", volume{gigabytes: 150}, volume{gigabytes: 150}},
}

type volume struct {
	gigabytes float64
	falls     bool // not rises
}

// bytes gives what a step has, the steps of a day counted from 0.
func (v volume) bytes(at int) float64 {
	rank := at + 1
	if v.falls {
		rank = stepsPerDay - at
	}
	return v.gigabytes * 1e9 / (30 * float64(stepsPerDay)) * 2 * float64(rank) / float64(stepsPerDay+1)
}

// recipesOfMonth gives what recipes find in that.
func recipesOfMonth() []recipe {
	// percentile is the 95th of what rises to so many GB and what falls from so many, in bits per second.
	percentile := func(rises, falls float64) float64 {
		return 2 * (0.95*rises + 0.05*falls) * 1e9 * 8 / billedMonth.Seconds()
	}
	return []recipe{
		{`quantile_over_time(0.95, sum by (ip) (rate(promflow_receive_bytes_total{peer="external"}[5m]))[30d:5m]) * 8`, []string{"ip"},
			map[string]float64{"192.168.1.10": percentile(80, 0), "192.168.1.11": percentile(60, 0),
				"192.168.1.12": percentile(101, 0), "192.168.2.20": percentile(10, 0)}},
		{`quantile_over_time(0.95, sum by (ip) (rate(promflow_transmit_bytes_total{peer="external"}[5m]))[30d:5m]) * 8`, []string{"ip"},
			map[string]float64{"192.168.1.10": percentile(30, 0), "192.168.1.11": percentile(35, 0),
				"192.168.2.20": percentile(50, 0)}},
		{`max by (network) (
  label_replace(quantile_over_time(0.95, sum by (network) (rate(promflow_receive_bytes_total{peer="external"}[5m]))[30d:5m]),
    "direction", "receive", "", "")
  or
  label_replace(quantile_over_time(0.95, sum by (network) (rate(promflow_transmit_bytes_total{peer="external"}[5m]))[30d:5m]),
    "direction", "transmit", "", "")
) * 8`, []string{"network"},
			map[string]float64{"lan": percentile(80+101, 60), "iot": percentile(50, 0)}},
		{`sum by (ip) (increase(promflow_receive_bytes_total{peer="external"}[30d]))`, []string{"ip"},
			map[string]float64{"192.168.1.10": 80e9, "192.168.1.11": 60e9, "192.168.1.12": 101e9, "192.168.2.20": 10e9}},
		{`sum by (ip) (increase(promflow_transmit_bytes_total{peer="external"}[30d]))`, []string{"ip"},
			map[string]float64{"192.168.1.10": 30e9, "192.168.1.11": 35e9, "192.168.2.20": 50e9}},
		{`sum by (ip) (
  label_replace(increase(promflow_receive_bytes_total{peer=~"external|"}[30d]), "direction", "receive", "", "")
  or
  label_replace(increase(promflow_transmit_bytes_total{peer=~"external|"}[30d]), "direction", "transmit", "", "")
) > 100e9`, []string{"ip"},
			map[string]float64{"192.168.1.10": 110e9, "192.168.1.12": 101e9}},
	}
}

func askAboutMonth(t *testing.T) {
	t.Parallel()
	prometheus := releases(t)[0]
	here := nettest.NewNamespace(t)
	end := time.Date(2025, 1, 31, 0, 0, 0, 0, time.UTC)
	data := filepath.Join(t.TempDir(), "data")
	// Without a longer duration, the blocks would be of two hours, and take a minute to make.
	backfill := here.Command(filepath.Join(prometheus.folder, "promtool"), "tsdb", "create-blocks-from", "openmetrics", "--quiet", "--max-block-duration=744h",
		writeMonth(t, monthSeries(t), end), data)
	var said strings.Builder
	backfill.Stdout, backfill.Stderr = &said, &said
	if err := runWithin(backfill); err != nil {
		t.Fatalf("%v: %s", err, &said)
	}

	server := prometheus.serve(t, here, "127.0.0.1:9090", "{}", "--storage.tsdb.path="+data, "--storage.tsdb.retention.time=31d")
	transport := &http.Transport{DialContext: here.Dial}
	t.Cleanup(transport.CloseIdleConnections)
	inside := &program{t: t, client: &http.Client{Timeout: deadline, Transport: transport}}
	for _, r := range recipesOfMonth() {
		server.ask(t, inside, r, float64(end.Unix()), 0.005)
	}
}

// monthSeries gives the program's series of what moves in a month, by the name and labels that its page has for each.
func monthSeries(t *testing.T) map[string]volume {
	t.Helper()
	dir := t.TempDir()
	all := map[string]volume{}
	series := regexp.MustCompile(`(?m)^(promflow_(receive|transmit)_bytes_total\{.*\}) `)
	for _, m := range recipeMonth {
		if err := os.WriteFile(filepath.Join(dir, "eth0"), pcap(ipv4(m.from, m.to, 100)), 0o600); err != nil {
			t.Fatal(err)
		}
		of := map[string]volume{"receive": m.receive, "transmit": m.transmit}
		for _, found := range series.FindAllStringSubmatch(replayed(t, dir, "", recipeLabels, recipeSubnets, recipePeers, "eth0"), -1) {
			all[found[1]] = of[found[2]]
			delete(of, found[2])
		}
		for direction, v := range of {
			if v != (volume{}) {
				t.Fatalf("the page has no series of what %s and %s %s", m.from, m.to, direction)
			}
		}
	}
	return all
}

// writeMonth writes the samples of a month and a day in OpenMetrics text. The program was started anew in their middle.
func writeMonth(t *testing.T, series map[string]volume, end time.Time) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "month")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	for _, direction := range []string{"receive", "transmit"} {
		name := "promflow_" + direction + "_bytes"
		fmt.Fprintf(w, "# TYPE %s counter\n# UNIT %[1]s bytes\n", name)
		for labels, v := range series {
			if !strings.HasPrefix(labels, name) {
				continue
			}
			begin, total := end.Add(-billedMonth-24*time.Hour), 0.
			fmt.Fprintf(w, "%s 0 %d\n", labels, begin.Unix())
			for i := range 31 * stepsPerDay {
				if i == 15*stepsPerDay+stepsPerDay/3 {
					total = 0
				}
				for part := range samplesPerStep {
					total += v.bytes(i%stepsPerDay) / samplesPerStep
					at := begin.Add(time.Duration(i)*rateStep + time.Duration(part+1)*rateStep/samplesPerStep)
					fmt.Fprintf(w, "%s %.0f %d\n", labels, total, at.Unix())
				}
			}
		}
	}
	fmt.Fprintln(w, "# EOF")
	if err := errors.Join(w.Flush(), f.Close()); err != nil {
		t.Fatal(err)
	}
	return file
}

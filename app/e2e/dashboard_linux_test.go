package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"promflow/capture/nettest"
)

// dashboard is what the tests need to know of the one for Grafana.
type dashboard struct {
	UID, Title    string
	SchemaVersion int
	Inputs        []any `json:"__inputs"`
	Templating    struct{ List []dashboardVariable }
	Panels        []dashboardPanel
}

type dashboardVariable struct {
	Name, Type, AllValue, Regex string
	Datasource                  dashboardSource
	Multi, IncludeAll           bool
	Query                       json.RawMessage                // a string, or an object with one
	Options                     []struct{ Text, Value string } // of a custom variable
}

type dashboardPanel struct {
	ID                       int
	Type, Title, Description string
	GridPos                  struct{ X, Y, W, H int }
	Datasource               dashboardSource
	Targets                  []struct {
		RefID, Expr    string
		Instant, Range bool
		Datasource     dashboardSource
	}
}

type dashboardSource struct{ Type, UID string }

func readDashboard(t *testing.T) (d dashboard) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "examples", "grafana", "dashboard.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// variable gives the one of a name.
func (d dashboard) variable(t *testing.T, name string) dashboardVariable {
	t.Helper()
	i := slices.IndexFunc(d.Templating.List, func(v dashboardVariable) bool { return v.Name == name })
	if i < 0 {
		t.Fatalf("the dashboard has no variable %s", name)
	}
	return d.Templating.List[i]
}

// text gives a variable's query.
func (v dashboardVariable) text(t *testing.T) (query string) {
	t.Helper()
	if json.Unmarshal(v.Query, &query) == nil {
		return query
	}
	var of struct{ Query string }
	if err := json.Unmarshal(v.Query, &of); err != nil {
		t.Fatalf("$%s: %v", v.Name, err)
	}
	return of.Query
}

func TestDashboardLayout(t *testing.T) {
	d := readDashboard(t)
	if d.UID != "promflow" || d.Title != "promflow" || d.SchemaVersion < 39 || d.Inputs != nil {
		t.Errorf("it has the uid %q, the title %q, schema %d and inputs %v", d.UID, d.Title, d.SchemaVersion, d.Inputs)
	}
	chosen := dashboardSource{"prometheus", "${datasource}"}
	known := []string{"__range", "__rate_interval"}
	for _, v := range d.Templating.List {
		if v.Type == "query" && v.Datasource != chosen {
			t.Errorf("$%s asks %v", v.Name, v.Datasource)
		}
		mustKnow(t, "$"+v.Name, v.text(t), known)
		if slices.Contains(known, v.Name) {
			t.Errorf("$%s is there twice", v.Name)
		}
		known = append(known, v.Name)
	}
	taken, ids := map[[2]int]string{}, map[int]string{}
	for _, p := range d.Panels {
		if other, found := ids[p.ID]; found || p.ID <= 0 {
			t.Errorf("%q has the id %d, as %q", p.Title, p.ID, other)
		}
		ids[p.ID] = p.Title
		g := p.GridPos
		if g.X < 0 || g.Y < 0 || g.W <= 0 || g.H <= 0 || g.X+g.W > 24 {
			t.Errorf("%q is at %+v", p.Title, g)
		}
		for x := g.X; x < g.X+g.W; x++ {
			for y := g.Y; y < g.Y+g.H; y++ {
				if other, found := taken[[2]int{x, y}]; found {
					t.Fatalf("%q lies on %q", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		if p.Title == "" {
			t.Errorf("panel %d has no title", p.ID)
		}
		if p.Type == "row" {
			continue
		}
		if p.Description == "" || p.Datasource != chosen || len(p.Targets) == 0 {
			t.Errorf("%q has the description %q, the data source %v and %d queries", p.Title, p.Description, p.Datasource, len(p.Targets))
		}
		mustKnow(t, p.Title, p.Title+" "+p.Description, known)
		var refs []string
		for _, q := range p.Targets {
			if q.RefID == "" || slices.Contains(refs, q.RefID) || q.Datasource != chosen || q.Instant == q.Range {
				t.Errorf("%q has a query %+v", p.Title, q)
			}
			refs = append(refs, q.RefID)
			mustKnow(t, p.Title+" "+q.RefID, q.Expr, known)
		}
	}
}

// dashboardReference is how a text refers to a variable.
var dashboardReference = regexp.MustCompile(`\$(?:\{(\w+)\}|(\w+))`)

func mustKnow(t *testing.T, where, text string, known []string) {
	t.Helper()
	for _, m := range dashboardReference.FindAllStringSubmatch(text, -1) {
		if name := m[1] + m[2]; !slices.Contains(known, name) {
			t.Errorf("%s refers to $%s, which is not known there", where, name)
		}
	}
}

// chosen is what each variable stands for in a query.
type chosen map[string]string

func (c chosen) interpolate(text string) string {
	return dashboardReference.ReplaceAllStringFunc(text, func(reference string) string {
		return c[strings.Trim(reference, "${}")]
	})
}

// choose chooses all values of a variable that has several, as Grafana does at first, and writes them as Grafana does.
func (c chosen) choose(v dashboardVariable, values []string) {
	switch {
	case v.IncludeAll && v.AllValue != "":
		c[v.Name] = v.AllValue
	case v.Multi || v.IncludeAll:
		var quoted []string
		for _, value := range values {
			quoted = append(quoted, regexp.MustCompile(`[\\^$*+?.()|{}\[\]]`).ReplaceAllString(value, `\\$0`))
		}
		c[v.Name] = strings.Join(quoted, "|")
		if len(quoted) > 1 {
			c[v.Name] = "(" + c[v.Name] + ")"
		}
	case len(values) > 0:
		c[v.Name] = values[0]
	}
}

// What the dashboard has for a promflow with these flags. What needs others is empty, for the reason that is given.
var dashboardCases = []struct {
	name  string
	args  []string
	empty map[string]string // by variable, or by panel and query
}{
	{"plain", nil, needFlags},
	{"all", []string{recipeLabels, recipePeers, "--host-info", "--reverse-dns=false", "--lease-files=$LEASES", "--data-dir=$DATA"}, nil}, // and an exporter of flows
}

var needFlags = map[string]string{
	"$network":             "--labels=network",
	"Networks, receive A":  "--labels=network",
	"Networks, transmit A": "--labels=network",
	"Tables B":             "--labels",

	"By peer A":     "--labels=peer",
	"By peer B":     "--labels=peer",
	"By protocol A": "--labels=protocol",
	"By protocol B": "--labels=protocol",

	"History and settings A":  "--data-dir",
	"Records by outcome A":    "--capture=netflow",
	"Share of lost reports A": "--capture=netflow",

	"Refused and dropped datagrams A": "--capture=netflow",
	"Refused and dropped datagrams B": "--capture=netflow",
}

// TestDashboard has each Prometheus, which scrapes the program and evaluates the example's rules, answer each query of the
// dashboard, from the totals and from what the rules record.
func TestDashboard(t *testing.T) {
	t.Parallel()
	d := readDashboard(t)
	leases := write(t, "leases", "0 02:00:00:00:00:10 192.168.1.10 laptop *\n")
	for _, c := range dashboardCases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
			here.Veth("here", there, "there")
			// Nobody takes the pushes, so that they fail.
			args := []string{"--interface=here", recipeSubnets, "--otlp-endpoint=127.0.0.1:9", "--otlp-interval=1s", "--otlp-timeout=500ms"}
			for _, arg := range c.args {
				args = append(args, strings.NewReplacer("$LEASES", leases, "$DATA", t.TempDir()).Replace(arg))
			}
			p := serve(t, here, args...)
			targets, report := []string{p.address}, func() {}
			if c.empty == nil {
				collects := serve(t, here, "--capture=netflow", "--netflow-address=127.0.0.1:2055", "--monitor-subnets=198.51.100.0/24")
				targets = append(targets, collects.address)
				exporter := &router{addr: netip.MustParseAddr("127.0.0.2"), clock: uint32(time.Now().Unix())}
				report = func() {
					exporter.send(true, flowOf{netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("203.0.113.2"), 1000, 1}) // not monitored
					exporter.flush(t, here, "127.0.0.1:2055", nil)
				}
			}
			report()
			servers := startReleases(t, here, fmt.Sprintf(`
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [%q, %q]
scrape_configs:
  - {job_name: promflow, static_configs: [{targets: ["%s"]}]}
  - {job_name: prometheus, static_configs: [{targets: ["127.0.0.1:9090"]}]} # a process that is none of the dashboard's
`, quickRules(t, "rules.yml"), quickRules(t, "alerts.yml"), strings.Join(targets, `", "`)))
			seeTraffic(t, p, nettest.NewSender(t, there, "there"), servers...)
			report()
			for _, prometheus := range servers {
				t.Run(prometheus.version, func(t *testing.T) {
					// What is sent last has to be in some of the recorded rates, for their means to be in order.
					const recorded = `count_over_time((instance_ip:promflow_receive_bytes:rate5m{ip="192.168.1.255"} > 0)[1m:1s])`
					eventually(t, func() error {
						if rates := prometheus.query(t, p, recorded)[""]; rates < 3 {
							return fmt.Errorf("Prometheus has recorded %v rates", rates)
						}
						return nil
					})
					at := float64(time.Now().UnixMilli()) / 1000
					for _, source := range d.variable(t, "source").Options {
						t.Run(source.Text, func(t *testing.T) { prometheus.show(t, p, d, source.Value, at, c.empty) })
					}
					if c.empty == nil {
						t.Run("rules", func(t *testing.T) { prometheus.knowsRules(t, p) })
					}
				})
			}
		})
	}
}

// show asks what Grafana would to show the dashboard.
func (s prometheusServer) show(t *testing.T, p *program, d dashboard, source string, end float64, empty map[string]string) {
	const span, scraped, step = 60, 1, 1 // seconds
	values := chosen{"__range": fmt.Sprintf("%ds", span), "__rate_interval": fmt.Sprintf("%ds", max(step+scraped, 4*scraped))}
	times := url.Values{"start": {fmt.Sprint(end - span)}, "end": {fmt.Sprint(end)}}
	judge := func(what, query string, results int, err error) {
		t.Helper()
		reason, maybe := empty[what]
		switch {
		case err != nil:
			t.Errorf("%s: %v\n%s", what, err, query)
		case results == 0 && !maybe:
			t.Errorf("%s has no data:\n%s", what, query)
		case results > 0 && maybe:
			t.Errorf("%s has data, but should need %s:\n%s", what, reason, query)
		}
	}

	labelValues := regexp.MustCompile(`^label_values\((.+), (\w+)\)$`)
	queryResult := regexp.MustCompile(`^query_result\((.+)\)$`)
	for _, v := range d.Templating.List {
		var options []string
		switch query := values.interpolate(v.text(t)); {
		case v.Type == "datasource":
			continue
		case v.Name == "source":
			options = []string{source}
		case v.Type == "custom":
			options = []string{v.Options[0].Value}
		case labelValues.MatchString(query):
			m := labelValues.FindStringSubmatch(query)
			parameters := maps.Clone(times)
			parameters.Set("match[]", m[1])
			err := s.api(p, "label/"+m[2]+"/values", parameters, &options)
			judge("$"+v.Name, query, len(options), err)
		case queryResult.MatchString(query):
			results, err := s.vector(p, queryResult.FindStringSubmatch(query)[1], end)
			for _, r := range results {
				m := regexp.MustCompile(strings.Trim(v.Regex, "/")).FindStringSubmatch(r.String())
				if m == nil {
					t.Fatalf("$%s does not see its value in %v", v.Name, r)
				}
				options = append(options, m[1])
			}
			judge("$"+v.Name, query, len(options), err)
		default:
			t.Fatalf("$%s asks %s", v.Name, query)
		}
		values.choose(v, options)
		if direction, found := map[string]string{"receivers": "receive", "transmitters": "transmit"}[v.Name]; found {
			mustBeTop(t, direction, options)
		}
	}
	for _, panel := range d.Panels {
		for _, q := range panel.Targets {
			query := values.interpolate(q.Expr)
			var results []promResult
			var err error
			if q.Instant {
				results, err = s.vector(p, query, end)
			} else {
				parameters := maps.Clone(times)
				parameters.Set("query", query)
				parameters.Set("step", strconv.Itoa(step))
				var data struct{ Result []promResult }
				err = s.api(p, "query_range", parameters, &data)
				results = data.Result
			}
			for _, r := range results {
				if job, found := r.Metric["job"]; found && job != "promflow" {
					t.Errorf("%s %s shows what is not promflow's: %v", panel.Title, q.RefID, r)
				}
			}
			judge(panel.Title+" "+q.RefID, query, len(results), err)
		}
	}
}

// mustBeTop checks that the addresses are those that the README's query for the top talkers gives, too.
func mustBeTop(t *testing.T, direction string, ips []string) {
	t.Helper()
	for _, r := range recipesOfTraffic() {
		if !strings.HasPrefix(r.query, "topk(5, sum by (ip) (rate(promflow_"+direction) {
			continue
		}
		if got, want := slices.Sorted(slices.Values(ips)), slices.Sorted(maps.Keys(r.want)); !slices.Equal(got, want) {
			t.Errorf("%v are said to %s the most, want %v", got, direction, want)
		}
		return
	}
	t.Errorf("no recipe knows who does %s the most", direction)
}

// promResult is a series of an answer.
type promResult struct{ Metric map[string]string }

func (r promResult) String() string {
	var labels []string
	for _, name := range slices.Sorted(maps.Keys(r.Metric)) {
		labels = append(labels, fmt.Sprintf("%s=%q", name, r.Metric[name]))
	}
	return "{" + strings.Join(labels, ",") + "}"
}

// vector asks for the series of an instant.
func (s prometheusServer) vector(p *program, query string, at float64) ([]promResult, error) {
	var data struct{ Result []promResult }
	err := s.api(p, "query", url.Values{"query": {query}, "time": {fmt.Sprint(at)}}, &data)
	return data.Result, err
}

// api asks Prometheus, and takes warnings for errors.
func (s prometheusServer) api(p *program, path string, parameters url.Values, data any) error {
	body, err := p.fetch("http://" + s.address + "/api/v1/" + path + "?" + parameters.Encode())
	if err != nil {
		return err
	}
	answer := struct {
		Warnings, Infos []string
		Data            any
	}{Data: data}
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		return fmt.Errorf("%w: %s", err, body)
	}
	if said := append(answer.Warnings, answer.Infos...); len(said) > 0 {
		return fmt.Errorf("Prometheus warns: %q", said)
	}
	return nil
}

// quickRules copies rules of the example, to be evaluated each second.
func quickRules(t *testing.T, name string) string {
	t.Helper()
	rules, err := os.ReadFile(filepath.Join("..", "..", "examples", "prometheus", name))
	if err != nil {
		t.Fatal(err)
	}
	return write(t, name, regexp.MustCompile(`interval: 1[mh]\n`).ReplaceAllString(string(rules), "interval: 1s\n"))
}

// knowsRules checks that Prometheus can evaluate the rules, that all they select is there, and which alerts there are.
func (s prometheusServer) knowsRules(t *testing.T, p *program) {
	type alert struct {
		Labels, Annotations map[string]string
	}
	type rule struct {
		Name, Query, Health, LastError string
		Annotations                    map[string]string
		Alerts                         []alert
	}
	var rules []rule
	var late map[string]alert
	eventually(t, func() error {
		var data struct{ Groups []struct{ Rules []rule } }
		if err := s.api(p, "rules", nil, &data); err != nil {
			return err
		}
		rules, late = nil, map[string]alert{}
		for _, g := range data.Groups {
			for _, r := range g.Rules {
				if r.Health != "ok" {
					return fmt.Errorf("%s is %s: %s", r.Name, r.Health, r.LastError)
				}
				for _, a := range r.Alerts {
					late[r.Name] = a
				}
				rules = append(rules, r)
			}
		}
		if _, found := late["PromflowPushesFail"]; !found {
			return errors.New("Prometheus does not see that pushes fail")
		}
		return nil
	})
	var names []string
	if err := s.api(p, "labels", nil, &names); err != nil {
		t.Fatal(err)
	}
	selector := regexp.MustCompile(`\b(?:promflow_\w+|\w+:\w+:\w+|up)\b(?:\{[^}]*\})?`)
	list := regexp.MustCompile(`\b(?:by|without|on|ignoring|group_left|group_right) \(([^)]*)\)|\$labels\.(\w+)`)
	for _, r := range rules {
		selected := selector.FindAllString(r.Query, -1)
		if len(selected) == 0 {
			t.Errorf("%s selects nothing: %s", r.Name, r.Query)
		}
		for _, query := range selected {
			if results, err := s.vector(p, query, float64(time.Now().UnixMilli())/1000); err != nil || len(results) == 0 {
				t.Errorf("%s selects %s, which is %v, %v", r.Name, query, results, err)
			}
		}
		text := r.Query + r.Annotations["summary"] + r.Annotations["description"]
		for _, m := range list.FindAllStringSubmatch(text, -1) {
			for name := range strings.SplitSeq(m[1]+m[2], ", ") {
				if !slices.Contains(names, name) {
					t.Errorf("%s has the label %s, but there are %v", r.Name, name, names)
				}
			}
		}
	}
	const never = "None has arrived since promflow was started."
	if got := late["PromflowPushesStopped"].Annotations["description"]; !strings.HasPrefix(got, never) {
		t.Errorf("of pushes that never arrived, an alert says %q", got)
	}
	delete(late, "PromflowPushesStopped")
	delete(late, "PromflowPushesFail")
	if len(late) > 0 {
		t.Errorf("there are further alerts: %v", late)
	}
}

// TestDashboardNames has Prometheus' own test tool evaluate the dashboard's top talkers with and without names.
func TestDashboardNames(t *testing.T) {
	all := releases(t)
	const (
		router  = `job="promflow", instance="router:9088", ip="192.168.1.10"`
		another = `job="promflow", instance="another:9088", ip="192.168.1.10"`
		twice   = `job="collector", instance="router:9088", ip="192.168.1.10"`
	)
	info := func(of, hostname string) string {
		return fmt.Sprintf(`promflow_host_info{%s, hostname=%q, mac=""}`, of, hostname)
	}
	bytes := func(of string) string { return fmt.Sprintf(`promflow_receive_bytes_total{%s}`, of) }
	named := func(of, hostname string) string { return fmt.Sprintf(`{%s, hostname=%q}`, of, hostname) }
	alone := func(of string) string { return "{" + of + "}" }
	cases := []namesCase{
		{"without --host-info", map[string]string{bytes(router): "0+600x10"}, map[string]float64{alone(router): 80}},
		{"a name that is not known", map[string]string{bytes(router): "0+600x10", info(router, ""): "1x10"},
			map[string]float64{alone(router): 80}},
		{"a name", map[string]string{bytes(router): "0+600x10", info(router, "laptop"): "1x10"},
			map[string]float64{named(router, "laptop"): 80}},
		{"labels", map[string]string{bytes(router + `, peer="external"`): "0+600x10", bytes(router + `, peer="lan"`): "0+60x10",
			info(router, "laptop"): "1x10"}, map[string]float64{named(router, "laptop"): 88}},
		{"one address of two sites", map[string]string{bytes(router): "0+600x10", info(router, "laptop"): "1x10",
			bytes(another): "0+60x10", info(another, "printer"): "1x10"},
			map[string]float64{named(router, "laptop"): 80, named(another, "printer"): 8}},
		{"one site with names", map[string]string{bytes(router): "0+600x10", info(router, "laptop"): "1x10", bytes(another): "0+60x10"},
			map[string]float64{named(router, "laptop"): 80, alone(another): 8}},
		{"one promflow by two jobs", map[string]string{bytes(router): "0+600x10", info(router, "laptop"): "1x10",
			bytes(twice): "0+600x10", info(twice, "laptop"): "1x10"},
			map[string]float64{named(router, "laptop"): 80, named(twice, "laptop"): 80}},
		{"a name that has changed", map[string]string{bytes(router): "0+600x10", info(router, "phone"): "1x5 stale", info(router, "laptop"): "_x5 1x4"},
			map[string]float64{named(router, "laptop"): 80}},
	}
	d := readDashboard(t)
	i := slices.IndexFunc(d.Panels, func(p dashboardPanel) bool { return p.Title == "Top talkers, receive" })
	if i < 0 {
		t.Fatal("the dashboard has no top talkers")
	}
	values := chosen{"job": ".*", "instance": ".*", "interface": ".*", "network": ".*", "receivers": `192\\.168\\.1\\.10`, "__rate_interval": "4m"}
	query := values.interpolate(d.Panels[i].Targets[0].Expr)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { c.evaluate(t, all, query) })
	}
	// As on a collector's page, for as long as that keeps what is not pushed any more. Either name will do.
	t.Run("two names at a time", func(t *testing.T) {
		namesCase{"", map[string]string{bytes(router): "0+600x10", info(router, "laptop"): "1x10", info(router, "laptop.lan"): "1x10"},
			map[string]float64{"{}": 1}}.evaluate(t, all, "count("+query+")")
	})
}

// namesCase is what a query gives for series.
type namesCase struct {
	name   string
	series map[string]string
	want   map[string]float64
}

// evaluate has the promtool of each release evaluate the query after ten minutes.
func (c namesCase) evaluate(t *testing.T, all []release, query string) {
	type (
		series struct {
			Series string `json:"series"`
			Values string `json:"values"`
		}
		samples struct {
			Labels string  `json:"labels"`
			Value  float64 `json:"value"`
		}
		expression struct {
			Expr    string    `json:"expr"`
			At      string    `json:"eval_time"`
			Samples []samples `json:"exp_samples"`
		}
		group struct {
			Interval    string       `json:"interval"`
			Input       []series     `json:"input_series"`
			Expressions []expression `json:"promql_expr_test"`
		}
	)
	// promtool compares to the last digit, and Prometheus 3 extrapolates to 79.99999999999999.
	g := group{Interval: "1m", Expressions: []expression{{Expr: "round(" + query + ")", At: "10m"}}}
	for name, v := range c.series {
		g.Input = append(g.Input, series{name, v})
	}
	for labels, v := range c.want {
		g.Expressions[0].Samples = append(g.Expressions[0].Samples, samples{labels, v})
	}
	test, err := json.Marshal(map[string]any{"tests": []group{g}}) // JSON is YAML, too
	if err != nil {
		t.Fatal(err)
	}
	file := write(t, "tests.yml", string(test))
	for _, r := range all {
		if said, err := exec.Command(filepath.Join(r.folder, "promtool"), "test", "rules", file).CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", r.version, err, said)
		}
	}
}

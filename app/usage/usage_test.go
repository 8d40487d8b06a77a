package usage

import (
	"bytes"
	"context"
	"encoding/csv"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"promflow/app/history"
	"promflow/capture"
)

// home is a history in which a laptop, a printer and a host without a MAC have moved something, and one that has its name for a formula.
func home(t testing.TB, hosts int) *history.History {
	t.Helper()
	info := map[string]history.Info{
		"192.168.1.2": {Hostname: "laptop", MAC: "02:00:00:00:00:02", Network: "lan"},
		"fd00::2":     {Hostname: "laptop", MAC: "02:00:00:00:00:02", Network: "lan"},
		"192.168.1.3": {MAC: "02:00:00:00:00:03", Network: "iot"},
		"192.168.1.4": {Hostname: `=HYPERLINK("http://x")`, Network: "lan"},
	}
	table := capture.NewTable(hosts+1024, 0)
	h, err := history.Open(history.Config{
		Dir: t.TempDir(), Table: table, Zone: berlin(t), Info: func(addr netip.Addr) history.Info { return info[addr.String()] },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	counter := capture.NewCounter(table)
	add := func(addr netip.Addr, receive, transmit int64) {
		counter.Lock()
		defer counter.Unlock()
		counter.Add(addr, capture.Totals{ReceiveBytes: receive, TransmitBytes: transmit})
	}
	add(netip.MustParseAddr("192.168.1.2"), 1000, 10)
	add(netip.MustParseAddr("fd00::2"), 3000, 30)
	add(netip.MustParseAddr("192.168.1.3"), 500, 5000)
	add(netip.MustParseAddr("192.168.1.4"), 7, 0)
	for i := range hosts {
		add(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), int64(i), 1)
	}
	return h
}

// ids returns the IDs of rows.
func (a *Answer) ids() string {
	var all []string
	for _, r := range a.Rows {
		all = append(all, r.ID)
	}
	return strings.Join(all, " ")
}

func TestAnswers(t *testing.T) {
	h := home(t, 0)
	const laptop, printer = "02:00:00:00:00:02", "02:00:00:00:00:03"
	for _, c := range []struct {
		parameters string
		ids        string
		receive    int64
	}{
		{"", printer + " " + laptop + " 192.168.1.4", 4507},
		{"period=today&sort=receive", laptop + " " + printer + " 192.168.1.4", 4507},
		{"sort=receive&reverse=true", "192.168.1.4 " + printer + " " + laptop, 4507},
		{"sort=hostname", "192.168.1.4 " + laptop + " " + printer, 4507},
		{"sort=ip&by=ip", "192.168.1.2 192.168.1.3 192.168.1.4 fd00::2", 4507},
		{"by=network", "iot lan", 4507},
		{"by=network&of=lan", "lan", 4007},
		{"by=network&of=LAN", "lan", 4007},
		{"by=network&filter=192.168.1.3", "iot", 500},
		{"by=network&filter=fd00::/8", "lan", 4007},
		{"sort=hostname&reverse=true", laptop + " 192.168.1.4 " + printer, 4507},
		{"of=02-00-00-00-00-02", laptop, 4000},
		{"of=FD00:0::2&by=ip", "fd00::2", 3000},
		{"of=::ffff:192.168.1.3", printer, 500},
		{"of=192.168.1.3/32", printer, 500},
		{"of=::ffff:192.168.1.3/128", printer, 500},
		{"by=ip&of=" + laptop, "fd00::2 192.168.1.2", 4000},
		{"of=" + laptop, laptop, 4000},
		{"of=192.168.1.3&period=24h", printer, 500},
		{"of=nobody", "", 0},
		{"filter=LAP", laptop, 4000},
		{"filter=fd00::/8", laptop, 4000},
		{"filter=iot", printer, 500},
		{"limit=1", printer, 4507},
		{"period=2150-01", "", 0},
		{"period=..2020-01", "", 0},
		{"limit=1&offset=1", laptop, 4507},
		{"offset=7", "", 4507},
		{"period=yesterday", "", 0},
		{"period=..", printer + " " + laptop + " 192.168.1.4", 4507},
	} {
		t.Run(c.parameters, func(t *testing.T) {
			parameters, err := url.ParseQuery(c.parameters)
			if err != nil {
				t.Fatal(err)
			}
			q, err := ParseQuery(parameters)
			if err != nil {
				t.Fatal(err)
			}
			a, err := Of(h, q, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			if a.ids() != c.ids || a.ReceiveBytes != c.receive {
				t.Errorf("%s with %d received, want %s with %d", a.ids(), a.ReceiveBytes, c.ids, c.receive)
			}
			var steps int64
			for _, s := range a.Steps {
				steps += s.ReceiveBytes
			}
			if q.Filter == "" && steps != c.receive {
				t.Errorf("%d in steps, want %d", steps, c.receive)
			}
			if back, err := ParseQuery(q.values()); err != nil || back != q {
				t.Errorf("%+v becomes %+v, %v", q, back, err)
			}
		})
	}
}

func TestHandler(t *testing.T) {
	h := home(t, 0)
	ask := func(h http.Handler, parameters string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", Path+"?"+parameters, nil))
		return w
	}
	for _, c := range []struct {
		parameters  string
		status      int
		contentType string
		has         string
	}{
		{"", 200, "application/json", `"hostname":"laptop"`},
		{"output=csv", 200, "text/csv; charset=utf-8; header=present", "id,hostname,mac,network,ips,receive_bytes,transmit_bytes\n"},
		{"output=text", 200, "text/plain; charset=utf-8", "TOTAL"},
		{"by=mac", 400, "text/plain; charset=utf-8", `by="mac": expected one of device, ip, network`},
		{"period=tomorrow", 400, "text/plain; charset=utf-8", `period="tomorrow": expected today`},
		{"output=xml&limit=-1", 400, "text/plain; charset=utf-8", "output=\"xml\": expected one of text, csv, json\n"},
		{"sort=%zz", 400, "text/plain; charset=utf-8", "invalid URL escape"},
		{"filter=%ff", 400, "text/plain; charset=utf-8", "UTF-8"},
	} {
		t.Run(c.parameters, func(t *testing.T) {
			w := ask(Handler(h), c.parameters)
			if w.Code != c.status || w.Header().Get("Content-Type") != c.contentType || !strings.Contains(w.Body.String(), c.has) {
				t.Errorf("%d, %s, %s; want %d, %s, %s", w.Code, w.Header().Get("Content-Type"), w.Body, c.status, c.contentType, c.has)
			}
		})
	}
	name := time.Now().In(berlin(t)).Format(time.DateOnly)
	if got := ask(Handler(h), "output=csv&period=today").Header().Get("Content-Disposition"); got != `attachment; filename="promflow-usage-`+name+"-"+name+`.csv"` {
		t.Errorf("CSV is %s", got)
	}
	body := ask(Handler(h), "output=csv").Body.String()
	records, err := csv.NewReader(strings.NewReader(body)).ReadAll()
	if err != nil || strings.Contains(body, "\r") || len(records) != 4 || records[3][1] != `'=HYPERLINK("http://x")` {
		t.Errorf("CSV has %q, %v", records, err)
	}
	if w := ask(Handler(nil), ""); w.Code != 404 || !strings.Contains(w.Body.String(), "--data-dir") {
		t.Errorf("without a history: %d, %s", w.Code, w.Body)
	}
	h.Close()
	if w := ask(Handler(h), ""); w.Code != 503 {
		t.Errorf("after the end: %d, %s", w.Code, w.Body)
	}
}

func TestText(t *testing.T) {
	zone := berlin(t)
	a := Answer{
		Time: time.Date(2026, 11, 5, 18, 24, 0, 0, zone), Since: time.Date(2026, 11, 2, 9, 0, 0, 0, zone),
		From: time.Date(2026, 11, 1, 0, 0, 0, 0, zone), To: time.Date(2026, 12, 1, 0, 0, 0, 0, zone), By: "device",
		ReceiveBytes: 3_000_000, TransmitBytes: 1_000_000, Matching: 4,
		Rows: []Row{
			{ID: "02:00:00:00:00:02", MAC: "02:00:00:00:00:02", Hostname: "laptop\x1b[2J", Network: "lan", IPs: []string{"192.168.1.2", "fd00::2"}, ReceiveBytes: 2_000_000, TransmitBytes: 1_000_000},
			{ID: "02:00:00:00:00:03", MAC: "02:00:00:00:00:03", Network: "iot", IPs: slices.Repeat([]string{"192.168.1.3"}, maxIPs), ReceiveBytes: 999_999},
			{ID: "192.168.1.4", IPs: []string{"192.168.1.4"}, ReceiveBytes: 1},
		},
	}
	for by, want := range map[string]string{
		"device": `2026-11-01 00:00 until now, 2026-11-05 18:24 +01:00; the history began at 2026-11-02 09:00

DEVICE                         ADDRESS                    NETWORK  RECEIVED  TRANSMITTED    TOTAL    SHARE
laptop[2J                      192.168.1.2 and 1 more     lan       2.00 MB      1.00 MB  3.00 MB   75.0 %
02:00:00:00:00:03              192.168.1.3 and 31 or more iot       1.00 MB          0 B  1.00 MB   25.0 %
192.168.1.4                                                             1 B          0 B      1 B    0.0 %
TOTAL of 4, also those not shown                                    3.00 MB      1.00 MB  4.00 MB  100.0 %
`,
		"ip": `2026-11-01 00:00 until now, 2026-11-05 18:24 +01:00; the history began at 2026-11-02 09:00

ADDRESS                        NAME       NETWORK  RECEIVED  TRANSMITTED    TOTAL    SHARE
`,
		"network": `2026-11-01 00:00 until now, 2026-11-05 18:24 +01:00; the history began at 2026-11-02 09:00

NETWORK                        RECEIVED  TRANSMITTED    TOTAL    SHARE
`,
	} {
		a.By = by
		var got bytes.Buffer
		if err := a.Text(&got, false); err != nil {
			t.Fatal(err)
		}
		squeeze := func(s string) string {
			return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == ' ' }), " ")
		}
		if !strings.HasPrefix(squeeze(got.String()), squeeze(want)) {
			t.Errorf("by %s it is\n%swant\n%s", by, &got, want)
		}
		width := -1
		for _, line := range strings.Split(strings.TrimSpace(got.String()), "\n")[2:] {
			if !strings.HasSuffix(line, "SHARE") && !strings.HasSuffix(line, " %") || width >= 0 && len(line) != width {
				t.Errorf("by %s the columns are not aligned in %q", by, line)
			}
			width = len(line)
		}
	}
}

// TestFetchFromAnyServer has servers that are no promflow, or a bad one.
func TestFetchFromAnyServer(t *testing.T) {
	for _, c := range []struct {
		name   string
		status int
		body   string
		want   string
	}{
		{"no promflow", 404, "not found", "it is no promflow"},
		{"without a history", 404, "no history is kept: start promflow with --data-dir=DIR", "start promflow with --data-dir=DIR"},
		{"password", 401, "", "--http-config-file"},
		{"wrong parameter", 400, `by="x": expected`, `by="x": expected`},
		{"other JSON", 200, `{"rows":[]}`, "no usage of promflow"},
		{"no JSON", 200, "hello", "no usage of promflow"},
		{"no rows", 200, `{"from":"2026-11-01T00:00:00Z","by":"ip","rows":7}`, "expected a list"},
		{"many rows", 200, `{"from":"2026-11-01T00:00:00Z","by":"ip","rows":[` + strings.Repeat("{},", maxLists) + `{}]}`, "at most"},
		{"busy", 503, "later", "503 Service Unavailable: later"},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(c.status)
				fmt.Fprint(w, c.body)
			}))
			defer server.Close()
			base, err := url.Parse(server.URL)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := Fetch(context.Background(), server.Client(), base, Query{}); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("the error is %v, want %s", err, c.want)
			}
		})
	}
	server := httptest.NewServer(Handler(home(t, 3000)))
	defer server.Close()
	base, _ := url.Parse(server.URL)
	a, err := Fetch(context.Background(), server.Client(), base, Query{By: "ip"})
	if err != nil || len(a.Rows) != 3004 || a.Rows[0].ReceiveBytes != 500 {
		t.Errorf("%d rows, %v", len(a.Rows), err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"from":"2026-11-01T00:00:00Z","by":"ip","rows":[{"id":"10.0.0.1","ips":["10.0.0.1"],"receive_bytes":1}],"steps":[]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		a := new(Answer)
		if a.decode(body) != nil {
			return
		}
		var out bytes.Buffer
		for _, write := range []func() error{func() error { return a.Text(&out, true) }, func() error { return a.CSV(&out) }, func() error { return a.JSON(&out) }} {
			if err := write(); err != nil && !strings.Contains(err.Error(), "year outside of range") {
				t.Error(err)
			}
		}
	})
}

// BenchmarkAnswer answers as the page asks, when many addresses move something.
func BenchmarkAnswer(b *testing.B) {
	for _, period := range []string{"24h", "31d", "12mo"} {
		for _, by := range Kinds {
			b.Run(fmt.Sprintf("addresses=65536/%s/%s", period, by), func(b *testing.B) {
				h := home(b, 65536)
				for b.Loop() {
					a, err := Of(h, Query{Period: period, By: by, Limit: 50}, time.Now())
					if err != nil {
						b.Fatal(err)
					}
					var body bytes.Buffer
					if err := a.JSON(&body); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

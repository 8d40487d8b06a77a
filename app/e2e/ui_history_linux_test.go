package e2e

import (
	"encoding/binary"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"promflow/app/web/ui"
	"promflow/capture/nettest"
	"promflow/telemetry/talkers"
)

// usagePath is where the page asks for what was moved in a span.
const usagePath = "/api/v1/usage"

// TestUIHistory looks at what the page has of the past, in a browser.
func TestUIHistory(t *testing.T) {
	t.Parallel()
	nettest.Need(t, "chromium")
	ns, hosts := nettest.NewNamespace(t), nettest.NewNamespace(t)
	hosts.Veth("h0", ns, "eth0")
	s := &stage{newBrowser(t, ns), ns, nettest.NewSender(t, hosts, "h0")}
	at := s.past(t)
	t.Run("spans", func(t *testing.T) { s.spans(t, at) })
	t.Run("one device", func(t *testing.T) { s.oneDevice(t, at) })
	t.Run("by address", func(t *testing.T) { s.byAddress(t, at) })
	t.Run("sorted and filtered", func(t *testing.T) { s.ordered(t, at) })
	t.Run("CSV", func(t *testing.T) { s.csv(t, at) })
	t.Run("keyboard", func(t *testing.T) { s.pastByKeyboard(t, at) })
	t.Run("accessible", func(t *testing.T) { s.accessiblePast(t, at) })
	t.Run("refused", func(t *testing.T) { s.refused(t, at) })
	t.Run("not kept", s.notKept)
	t.Run("zone", s.zone)
	t.Run("late answers", s.late)
	t.Run("hidden", s.hiddenPast)
	t.Run("65,536 addresses", s.longPast)
}

// What devices have moved: a laptop with two addresses, and a phone.
const (
	laptopMAC = "02:00:5e:10:00:05"
	phoneMAC  = "02:00:5e:10:00:07"
)

// past starts a promflow that keeps history, has devices move something, and gives the address of the page once all of it is known.
func (s *stage) past(t *testing.T) string {
	t.Helper()
	leases := write(t, "leases", "0 "+laptopMAC+" 10.0.0.5 laptop *\n0 "+laptopMAC+" 10.0.0.6 laptop *\n0 "+phoneMAC+" 10.0.0.7 phone *\n")
	p := serve(t, s.ns, "--interface=eth0", monitored, "--host-info", "--reverse-dns=false", "--lease-files="+leases,
		keeps(t), "--history-interval=1s")
	for _, sent := range []struct {
		from, to    string
		size, times int
	}{
		{stranger, "10.0.0.5", 1000, 4}, {"10.0.0.5", stranger, 150, 2},
		{stranger, "10.0.0.6", 700, 1},
		{stranger, "10.0.0.7", 1250, 2}, {"10.0.0.7", stranger, 80, 1},
		{"10.0.0.9", stranger, 60, 1},
	} {
		frame := nettest.UDP(netip.MustParseAddr(sent.from), netip.MustParseAddr(sent.to), sent.size)
		for range sent.times {
			s.send.Send(frame)
		}
	}
	eventually(t, func() error {
		var got struct {
			Receive int64 `json:"receive_bytes"`
			Rows    []struct{ ID string }
		}
		text, err := p.try(usagePath + "?period=24h")
		if err != nil {
			return err
		}
		if err := json.Unmarshal([]byte(text), &got); err != nil {
			return err
		}
		if got.Receive != 7200 || len(got.Rows) != 3 {
			return fmt.Errorf("the history has %+v", got)
		}
		return nil
	})
	return "http://" + p.address + "/"
}

// keeps gives the flag for a history that goes away with the test.
func keeps(t *testing.T) string {
	t.Helper()
	folder := filepath.Join(t.TempDir(), "data")
	nettest.Check(t, os.Mkdir(folder, 0o700))
	hand(t, folder)
	return "--data-dir=" + folder
}

// Rows of the table, as the page writes them.
var (
	laptopRow = []string{"laptop", "4.70 kB", "300 B", "5.00 kB", "65.4 %"}
	phoneRow  = []string{"phone", "2.50 kB", "80 B", "2.58 kB", "33.8 %"}
	otherRow  = []string{"10.0.0.9", "0 B", "60 B", "60 B", "0.8 %"}
)

// usage gives the rows of a span's table: who, received, transmitted, total and share.
func (p *tab) usage() [][]string {
	p.t.Helper()
	return evaluate[[][]string](p, `[...document.querySelectorAll("#usage tbody tr")].map((r) => [".who", ".receive", ".transmit", ".total", ".percent"]
		.map((c) => r.querySelector(c).textContent.replaceAll("\u00a0", " ")))`)
}

// uses waits until the table of a span has these rows in this order.
func (p *tab) uses(want ...[]string) {
	p.t.Helper()
	eventually(p.t, func() error {
		if got := p.usage(); !slices.EqualFunc(got, want, slices.Equal) {
			return fmt.Errorf("the table has %q, want %q", got, want)
		}
		return nil
	})
}

// bars gives how many steps the chart has, and the sums of what is drawn.
func (p *tab) bars() (steps, received, transmitted int64) {
	p.t.Helper()
	sums := evaluate[[3]int64](p, `import("/assets/page.js").then(({ span: { bars: { data: [steps, received, transmitted] } } }) =>
		[steps.length, ...[received, transmitted].map((all) => all.reduce((sum, v) => sum + v, 0))])`)
	return sums[0], sums[1], sums[2]
}

// at waits until the address of the page has a fragment.
func (p *tab) at(fragment string) {
	p.t.Helper()
	eventually(p.t, func() error {
		if got := evaluate[string](p, `location.hash`); got != fragment {
			return fmt.Errorf("the page is at %q, want %q", got, fragment)
		}
		return nil
	})
}

// spans goes from one to the next, and back.
func (s *stage) spans(t *testing.T, at string) {
	p := s.open(t, at, desktop)
	p.has("#as-of", "As of")
	spans := []struct {
		view, title string
		steps       int64
	}{{"24h", "24 hours", 24}, {"31d", "31 days", 31}, {"12mo", "12 months", 12}}
	shows := func(title string, steps int64) {
		t.Helper()
		p.has("#span-title", title)
		p.uses(laptopRow, phoneRow, otherRow)
		if n, received, transmitted := p.bars(); n != steps || received != 7200 || transmitted != 440 {
			t.Errorf("%s has %d bars of %d and %d bytes in all, want %d of 7200 and 440", title, n, received, transmitted, steps)
		}
		for id, want := range map[string]string{"#span-received": "7.20 kB", "#span-transmitted": "440 B", "#span-total": "7.64 kB",
			"#sums-of": "3 devices together", "#sum-received": "7.20 kB", "#sum-transmitted": "440 B", "#sum-total": "7.64 kB", "#count": "3 devices"} {
			if got := p.text(id); got != want {
				t.Errorf("%s: %s is %q, want %q", title, id, got, want)
			}
		}
		if got := p.text("#since"); !strings.HasPrefix(got, "History began ") {
			t.Errorf("%s: that history began within is not told: %q", title, got)
		}
		if label := evaluate[string](p, `document.getElementById("bars").getAttribute("aria-label")`); !strings.Contains(label, "Received: 7.20 kB in all") {
			t.Errorf("%s: the chart is described as %q", title, label)
		}
		if list := p.texts("#steps li"); int64(len(list)) != steps || !strings.Contains(list[steps-1], "until now: ") {
			t.Errorf("%s: the list of steps is %q", title, list)
		}
	}
	asked := p.questions(usagePath)
	for _, c := range spans {
		p.click("#view-" + c.view)
		shows(c.title, c.steps)
		p.at("#view=" + c.view)
	}
	if n := p.questions(usagePath) - asked; n != len(spans) {
		t.Errorf("the page has asked %d times for %d spans", n, len(spans))
	}
	for _, c := range slices.Backward(spans[:2]) {
		evaluate[any](p, `history.back()`)
		shows(c.title, c.steps)
	}
	evaluate[any](p, `history.back()`)
	p.at("")
	if !evaluate[bool](p, `document.getElementById("view-live").checked && document.getElementById("usage").hidden`) {
		t.Error("Back does not lead to the live view")
	}
	// A link to a span.
	p = s.open(t, at+"#view=31d", phone)
	shows("31 days", 31)
	if got := evaluate[string](p, `document.title`); got != "31 days – promflow" {
		t.Errorf("its title is %q", got)
	}
}

// laptopAlone waits until the page shows what the laptop moved, by address.
func (p *tab) laptopAlone(span string) {
	p.t.Helper()
	p.has("#span-title", "laptop, "+span)
	p.uses([]string{"10.0.0.5", "4.00 kB", "300 B", "4.30 kB", "86.0 %"}, []string{"10.0.0.6", "700 B", "0 B", "700 B", "14.0 %"})
	if _, received, transmitted := p.bars(); received != 4700 || transmitted != 300 {
		p.t.Errorf("of the laptop the bars have %d and %d bytes, want 4700 and 300", received, transmitted)
	}
	if got := p.text("#span-total"); got != "5.00 kB" {
		p.t.Errorf("the laptop's total is %q", got)
	}
}

const ofLaptop = "of=02%3A00%3A5e%3A10%3A00%3A05"

// oneDevice clicks at rows, at their links and next to them.
func (s *stage) oneDevice(t *testing.T, at string) {
	p := s.open(t, at+"#view=31d", desktop)
	p.uses(laptopRow, phoneRow, otherRow)
	if got := p.text("#usage tbody .addresses"); got != "10.0.0.5, 10.0.0.6" {
		t.Errorf("the laptop's addresses are %q", got)
	}
	p.click("#usage tbody tr:first-child .receive")
	p.laptopAlone("31 days")
	p.at("#view=31d&" + ofLaptop)
	p.click("#view-24h")
	p.laptopAlone("24 hours")
	p.click("#back")
	p.uses(laptopRow, phoneRow, otherRow)
	p.at("#view=24h")
	evaluate[any](p, `history.back()`)
	p.laptopAlone("24 hours")
	// An address alone.
	p.click("#usage tbody tr:nth-child(2) .who")
	p.uses([]string{"10.0.0.6", "700 B", "0 B", "700 B", "100.0 %"})

	// In the live view a row leads to the last 24 hours.
	p = s.open(t, at, desktop)
	p.has("#talkers tbody", "10.0.0.7")
	p.click("#by-device")
	p.has("#talkers thead", "Device")
	p.has("#talkers tbody", "phone")
	p.click(`#talkers tbody a[href$="%3A07"]`)
	p.has("#span-title", "phone, 24 hours")
	p.uses([]string{"10.0.0.7", "2.50 kB", "80 B", "2.58 kB", "100.0 %"})
	evaluate[any](p, `history.back()`)
	p.at("#by=device")
	eventually(t, func() error {
		if focused := evaluate[string](p, `document.activeElement.textContent`); focused != "phone" {
			return fmt.Errorf("after Back %q has the focus", focused)
		}
		return nil
	})
}

// byAddress switches what rows are of, in both views.
func (s *stage) byAddress(t *testing.T, at string) {
	p := s.open(t, at+"#view=24h", desktop)
	p.uses(laptopRow, phoneRow, otherRow)
	p.click("#by-ip")
	p.uses([]string{"10.0.0.5", "4.00 kB", "300 B", "4.30 kB", "56.3 %"}, append([]string{"10.0.0.7"}, phoneRow[1:]...),
		[]string{"10.0.0.6", "700 B", "0 B", "700 B", "9.2 %"}, otherRow)
	p.at("#view=24h&by=ip")
	p.has("#count", "4 addresses")
	p.has("#usage thead", "Address")
	if got := p.text("#usage tbody .hostname"); got != "laptop" {
		t.Errorf("the first address is called %q", got)
	}
	p.click("#by-device")
	p.uses(laptopRow, phoneRow, otherRow)

	// The laptop is one row of the live table, too.
	p.click("#view-live")
	p.has("#count", "3 devices, 4 addresses")
	who := func() []string { return p.texts("#talkers tbody .who") }
	eventually(t, func() error {
		if got := who(); len(got) != 3 || !slices.Contains(got, "laptop") || !slices.Contains(got, "phone") || !slices.Contains(got, "10.0.0.9") {
			return fmt.Errorf("the live table has %q", got)
		}
		return nil
	})
	p.click("#by-ip")
	p.has("#count", "4 addresses")
	eventually(t, func() error {
		if got := who(); len(got) != 4 || !slices.Contains(got, "10.0.0.6") {
			return fmt.Errorf("the live table has %q", got)
		}
		return nil
	})
}

// ordered sorts and filters.
func (s *stage) ordered(t *testing.T, at string) {
	p := s.open(t, at+"#view=24h", desktop)
	p.uses(laptopRow, phoneRow, otherRow)
	for _, c := range []struct {
		column, direction string
		want              [][]string
	}{
		{"transmit", "descending", [][]string{laptopRow, phoneRow, otherRow}},
		{"transmit", "ascending", [][]string{otherRow, phoneRow, laptopRow}},
		{"receive", "descending", [][]string{laptopRow, phoneRow, otherRow}},
		{"ip", "ascending", [][]string{laptopRow, phoneRow, otherRow}},
		{"ip", "descending", [][]string{otherRow, phoneRow, laptopRow}},
		{"hostname", "ascending", [][]string{laptopRow, phoneRow, otherRow}},
	} {
		p.click(fmt.Sprintf(`#usage th[data-sort=%q] button`, c.column))
		p.uses(c.want...)
		if got := evaluate[string](p, `document.querySelector("#usage th[aria-sort]").dataset.sort + " " +
			document.querySelector("#usage th[aria-sort]").getAttribute("aria-sort")`); got != c.column+" "+c.direction {
			t.Errorf("the headers say %q, want %s %s", got, c.column, c.direction)
		}
	}
	p.press("/")
	p.do(chromedp.SendKeys(chromedp.ID("filter"), "phone"))
	p.uses(phoneRow) // whose share is still that of all
	p.has("#sums-of", "1 device together")
	p.has("#status", "1 device")
	p.has("#sum-total", "2.58 kB")
	if got := p.text("#span-total"); got != "7.64 kB" {
		t.Errorf("the chart is of all, and has %q", got)
	}
	p.at("#sort=hostname&filter=phone&view=24h")
	p.press(kb.Escape)
	p.uses(laptopRow, phoneRow, otherRow)
}

// csv reads the file that is there to download.
func (s *stage) csv(t *testing.T, at string) {
	p := s.open(t, at+"#view=12mo&filter=10.0.0.4%2F30", desktop)
	p.uses(laptopRow, phoneRow)
	file := evaluate[struct{ Text, Name string }](p, `fetch(document.getElementById("csv").href).then(async (r) =>
		({ text: await r.text(), name: r.headers.get("Content-Disposition") }))`)
	if !strings.HasPrefix(file.Name, "attachment; filename=") {
		t.Errorf("it is no file to download: %q", file.Name)
	}
	rows, err := csv.NewReader(strings.NewReader(file.Text)).ReadAll()
	if err != nil || len(rows) != 3 {
		t.Fatalf("%v, %d rows, want 3:\n%s", err, len(rows), file.Text)
	}
	for column, want := range map[string]int{"receive_bytes": 7200, "transmit_bytes": 380} {
		at, sum := slices.Index(rows[0], column), 0
		for _, row := range rows[1:] {
			n, err := strconv.Atoi(row[max(at, 0)])
			if err != nil {
				t.Error(err)
			}
			sum += n
		}
		if sum != want {
			t.Errorf("%s is %d in all, want %d:\n%s", column, sum, want, file.Text)
		}
	}
}

// pastByKeyboard gets everywhere without a pointer.
func (s *stage) pastByKeyboard(t *testing.T, at string) {
	p := s.open(t, at, desktop)
	p.has("#as-of", "As of")
	focused := func() string {
		return evaluate[string](p, `(({ id, textContent }) => id || textContent)(document.activeElement)`)
	}
	tab := func(to string) {
		t.Helper()
		for range 30 {
			if p.press(kb.Tab); focused() == to {
				if evaluate[bool](p, `getComputedStyle(document.activeElement).outlineStyle === "none"`) {
					t.Errorf("that %q has the focus cannot be seen", to)
				}
				return
			}
		}
		t.Fatalf("Tab does not lead to %q", to)
	}
	tab("view-live")
	p.press(kb.ArrowRight)
	p.uses(laptopRow, phoneRow, otherRow)
	p.press(kb.ArrowRight)
	p.has("#span-title", "31 days")
	if got := focused(); got != "view-31d" {
		t.Errorf("the arrow leads to %q", got)
	}
	tab("by-device")
	p.press(kb.ArrowRight)
	p.has("#count", "4 addresses")
	p.press(kb.ArrowLeft)
	p.uses(laptopRow, phoneRow, otherRow)
	p.press("t") // is no text in a choice
	p.has("#theme", "light")
	tab("laptop")
	p.press(kb.Enter)
	p.laptopAlone("31 days")
	if got := focused(); got != "span-title" {
		t.Errorf("at the device %q has the focus", got)
	}
	tab("back")
	p.press(kb.Enter)
	p.uses(laptopRow, phoneRow, otherRow)
	if got := focused(); got != "laptop" {
		t.Errorf("back at the list %q has the focus", got)
	}
}

// accessiblePast has axe-core look at each view, and the views fit where there is little room.
func (s *stage) accessiblePast(t *testing.T, at string) {
	if axe == "" {
		nettest.Lacks(t, "PROMFLOW_TEST_AXE, the path of axe-core's axe.min.js")
	}
	for _, c := range []struct{ fragment, shows string }{
		{"#view=24h", "laptop"}, {"#view=31d&by=ip", "10.0.0.6"}, {"#view=12mo&filter=nobody", "No device matches “nobody”."},
		{"#view=31d&" + ofLaptop, "10.0.0.6"}, {"#by=device", "laptop"},
	} {
		t.Run(c.fragment, func(t *testing.T) {
			p := s.open(t, at+c.fragment, desktop)
			p.has("main", c.shows)
			for _, on := range []screen{desktop, desktopDark, {360, 800, false}, {360, 800, true}} {
				p.show(on)
				p.audit(fmt.Sprint(on))
				if width := evaluate[int64](p, `document.documentElement.scrollWidth`); width > on.width {
					t.Errorf("on %v the page is %d wide", on, width)
				}
			}
			p.show(screen{320, 800, false}) // as a desktop at 400 %
			if cut := evaluate[[]string](p, `[...document.querySelectorAll("table :is(th, td)")].filter((e) => e.scrollWidth > e.clientWidth + 1)
				.map((e) => e.textContent)`); len(cut) > 0 {
				t.Errorf("where there is little room, these are cut off: %q", cut)
			}
		})
	}
}

// refused has promflow refuse a question.
func (s *stage) refused(t *testing.T, at string) {
	p := s.open(t, at+"#view=24h&filter="+strings.Repeat("%C3%BC", 200), desktop)
	p.allow("400") // which the browser tells of
	p.has("#alerts [role=alert]", "promflow does not answer as it should.")
	p.has("#alerts", "expected at most 253 bytes")
	p.press(kb.Escape)
	p.has("#status", "promflow answers again.")
	p.uses(laptopRow, phoneRow, otherRow)
	p.complaints()
}

// notKept has a promflow without a directory for history, and then one with it at the same address.
func (s *stage) notKept(t *testing.T) {
	p := serve(t, s.ns, "--interface=eth0", monitored)
	page := s.open(t, "http://"+p.address+"/", desktop)
	page.has("#as-of", "As of")
	page.allow("Failed to load resource") // which the browser tells of
	page.click("#view-31d")
	page.has("#missing", "start promflow with --data-dir=DIR")
	page.has("#missing", "/var/lib/promflow")
	page.has("#status", "No history is kept.")
	shown := func(selector string) bool {
		return evaluate[bool](page, `document.querySelector(%v).checkVisibility()`, selector)
	}
	if !shown("#missing") || shown("#bars") || shown("#usage") {
		t.Error("the page shows something else than that there is no history")
	}
	if axe != "" {
		page.audit("without history")
	}
	page.click("#view-live")
	page.has("#as-of", "As of")
	if shown("#missing") || !shown("#chart") {
		t.Error("in the live view the page says that there is no history")
	}
	page.click("#view-24h")
	page.has("#status", "No history is kept.")
	p.terminate()
	start(t, s.ns, inside(t, s.ns, "--interface=eth0", monitored, "--metrics-address="+p.address, keeps(t))).listening()
	page.has("#span-title", "24 hours")
	eventually(t, func() error {
		if shown("#missing") || !shown("#bars") {
			return errors.New("the page does not find out that history is kept now")
		}
		return nil
	})
}

// pastAnswers serves the page, and answers questions for spans as a test wants.
func (s *stage) pastAnswers(t *testing.T, answer func(w http.ResponseWriter, parameters url.Values)) string {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle("/", ui.Handler())
	mux.HandleFunc(usagePath, func(w http.ResponseWriter, r *http.Request) { answer(w, r.URL.Query()) })
	mux.HandleFunc(talkers.Path, func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(often()) })
	return serveInside(t, s.ns, mux)
}

// madeUsage is an answer of one row, in which clocks are changed.
const madeUsage = `{"time":"2026-10-25T12:34:56+05:45","since":"2026-10-25T01:30:00+06:45","from":"2026-10-25T01:00:00+06:45",
	"to":"2026-10-25T03:00:00+05:45","by":"device","receive_bytes":1000,"transmit_bytes":10,"matching":1,
	"rows":[{"id":%q,"hostname":"","mac":"","network":"","ips":[%[1]q],"receive_bytes":1000,"transmit_bytes":10}],
	"steps":[{"start":"2026-10-25T01:00:00+06:45","end":"2026-10-25T02:00:00+06:45","receive_bytes":1000,"transmit_bytes":10},
		{"start":"2026-10-25T02:00:00+06:45","end":"2026-10-25T02:00:00+05:45","receive_bytes":0,"transmit_bytes":0},
		{"start":"2026-10-25T02:00:00+05:45","end":"2026-10-25T03:00:00+05:45","receive_bytes":0,"transmit_bytes":0}]}`

// zone has times of promflow's zone, which is nobody's.
func (s *stage) zone(t *testing.T) {
	p := s.open(t, s.pastAnswers(t, func(w http.ResponseWriter, _ url.Values) { fmt.Fprintf(w, madeUsage, "10.0.0.1") })+"/#view=24h", desktop)
	p.has("#usage tbody", "10.0.0.1")
	format := func(options, time string) string {
		return evaluate[string](p, `new Intl.DateTimeFormat(undefined, { ...`+options+`, timeZone: "UTC" }).format(new Date(%v)).replaceAll("\u202f", " ")`, time)
	}
	medium := `{ dateStyle: "medium", timeStyle: "short" }`
	for id, want := range map[string]string{
		"#as-of": "As of " + format(`{ timeStyle: "medium" }`, "2026-10-25T12:34:56Z"),
		"#since": "History began " + format(medium, "2026-10-25T01:30:00Z") + ".",
	} {
		if got := strings.ReplaceAll(p.text(id), "\u202f", " "); got != want {
			t.Errorf("%s is %q, want %q", id, got, want)
		}
	}
	for i, hour := range []string{"01", "02", "02"} {
		time := format(`{ hour: "2-digit", minute: "2-digit" }`, "2026-10-25T"+hour+":00:00Z")
		if got := strings.ReplaceAll(p.texts("#steps li")[i], "\u202f", " "); !strings.Contains(got, time+": received") {
			t.Errorf("step %d is %q, want that of %s", i, got, time)
		}
	}
}

// late has an answer come when something else has been asked for.
func (s *stage) late(t *testing.T) {
	var once sync.Once
	release := make(chan struct{})
	asked := make(chan struct{})
	p := s.open(t, s.pastAnswers(t, func(w http.ResponseWriter, q url.Values) {
		if q.Get("period") == "24h" {
			once.Do(func() { close(asked); <-release })
		}
		fmt.Fprintf(w, madeUsage, "of "+q.Get("period"))
	})+"/#view=24h", desktop)
	<-asked
	p.click("#view-31d")
	p.has("#usage tbody", "of 31d")
	close(release)
	evaluate[any](p, `new Promise((done) => setTimeout(done, 200))`)
	if got := p.usage(); len(got) != 1 || got[0][0] != "of 31d" {
		t.Errorf("a late answer is shown: %q", got)
	}
}

// hiddenPast has the page not ask while nobody sees it.
func (s *stage) hiddenPast(t *testing.T) {
	p := s.open(t, s.pastAnswers(t, func(w http.ResponseWriter, _ url.Values) { fmt.Fprintf(w, madeUsage, "10.0.0.1") })+"/#view=24h", desktop)
	p.has("#usage tbody", "10.0.0.1")
	const set = `(() => {
		Object.defineProperty(document, "hidden", { value: %v, configurable: true });
		document.dispatchEvent(new Event("visibilitychange"));
	})()`
	evaluate[any](p, set, true)
	evaluate[any](p, `void (location.hash = "#view=31d")`)
	p.has("#csv", "CSV")
	if n := p.questions(usagePath); n != 1 {
		t.Errorf("a hidden page has asked %d times, want once before it was hidden", n)
	}
	evaluate[any](p, set, false)
	p.has("#span-title", "31 days")
	if n := p.questions(usagePath) + p.questions(talkers.Path); n != 2 {
		t.Errorf("the page has asked %d times in all, want twice", n)
	}
}

// longPast measures how long it takes to see who moved most in a history of a whole /16.
func (s *stage) longPast(t *testing.T) {
	p := serve(t, s.ns, "--interface=eth0", monitored, keeps(t))
	frame := nettest.UDP(netip.MustParseAddr(stranger), netip.MustParseAddr("10.1.0.0"), 100)
	for i := range 1 << 16 {
		binary.BigEndian.PutUint16(frame[14+18:], uint16(i)) // the destination's second half
		s.send.Send(frame)
	}
	page := s.open(t, "http://"+p.address+"/#by=ip", desktop)
	page.has("#count", "65,536 addresses")
	const measure = `(async () => {
		const { span } = await import("/assets/page.js");
		const begin = performance.now();
		document.getElementById("view-" + %v).click();
		while (document.getElementById("content").hasAttribute("aria-busy")) await new Promise((done) => requestAnimationFrame(done));
		await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
		return performance.now() - begin;
	})()`
	for _, view := range []string{"24h", "31d", "12mo", "24h"} {
		took := evaluate[float64](page, measure, view)
		t.Logf("%s: from the click to what is seen %.0f ms", view, took)
		page.has("#count", "65,536 addresses")
		page.has("#shown", "50 of 65,536 shown")
	}
	// To the end of a list that is too long to be seen at once.
	page = s.open(t, "http://"+p.address+"/#view=24h&by=ip&sort=ip&limit=1000&offset=64000", desktop)
	page.has("#shown", "64,001 to 65,000 of 65,536 shown")
	page.click("#next")
	page.has("#shown", "65,001 to 65,536 of 65,536 shown")
	if got := page.texts("#usage tbody .who"); len(got) != 536 || got[535] != "10.1.255.255" {
		t.Errorf("the list ends with %q", got[max(len(got)-2, 0):])
	}
	if evaluate[bool](page, `document.getElementById("next").checkVisibility()`) {
		t.Error("at the end there is a next page")
	}
	page.click("#previous")
	page.has("#shown", "64,001 to 65,000 of 65,536 shown")
}

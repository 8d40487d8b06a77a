package e2e

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/cdproto/security"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"golang.org/x/crypto/bcrypt"

	"promflow/app/web/ui"
	"promflow/capture/nettest"
	"promflow/telemetry/golden"
	"promflow/telemetry/talkers"
)

// stage has a browser, and promflow with it, in one network namespace, and an interface eth0 there, to which the hosts of another one
// send.
type stage struct {
	*browser
	ns   *nettest.Namespace
	send *nettest.Sender
}

// TestUI looks at the page in a browser.
func TestUI(t *testing.T) {
	nettest.Need(t, "chromium")
	ns, hosts := nettest.NewNamespace(t), nettest.NewNamespace(t)
	hosts.Veth("h0", ns, "eth0")
	s := &stage{newBrowser(t, ns), ns, nettest.NewSender(t, hosts, "h0")}
	t.Run("rates", s.rates)
	t.Run("operated", s.operated)
	t.Run("settings", s.settings)
	t.Run("65,536 addresses", s.many)
	t.Run("accessible", s.accessible)
	t.Run("alerts", s.alerts)
	t.Run("hostile names", s.hostile)
	t.Run("scrolled", s.scrolled)
	t.Run("gaps", s.gaps)
	t.Run("hidden", s.hidden)
	t.Run("away", s.away)
	t.Run("subnets", s.subnets)
	t.Run("behind a proxy", s.proxied)
	t.Run("policy", s.policy)
	t.Run("TLS and authentication", s.authentication)
	if *golden.Update {
		t.Run("screenshots", s.screenshots)
	}
}

// stream is packets of one size from one address to another.
type stream struct {
	from, to string
	rate     float64 // network-layer bytes a second
	size     int     // of a packet, 1000 if 0
	merged   bool    // 20 packets at a time, which the kernel splits
}

const mergedPackets = 20

// frame has a packet, or several: of UDP (VIRTIO_NET_HDR_GSO_UDP_L4), behind Ethernet and IPv4.
func (f stream) frame() nettest.Merged {
	size := f.size
	if f.merged {
		size = 28 + mergedPackets*(f.size-28)
	}
	return nettest.Merged{
		Frame: nettest.UDP(netip.MustParseAddr(f.from), netip.MustParseAddr(f.to), size),
		Kind:  5, Size: f.size - 28, Transport: 34,
	}
}

// pump sends streams at their rates, and knows what it has sent.
type pump struct {
	streams []stream
	stop    func()

	mu   sync.Mutex
	at   []time.Time
	sent [][]int64 // bytes of each stream, at these times
}

// start begins to send. The test's end stops it.
func (s *stage) start(t *testing.T, streams ...stream) *pump {
	t.Helper()
	p := &pump{streams: slices.Clone(streams)}
	frames := make([]nettest.Merged, len(streams))
	for i := range p.streams {
		p.streams[i].size = cmp.Or(p.streams[i].size, 1000)
		frames[i] = p.streams[i].frame()
	}
	stop, ended := make(chan struct{}), make(chan struct{})
	p.stop = sync.OnceFunc(func() { close(stop); <-ended })
	t.Cleanup(p.stop)
	go func() {
		defer close(ended)
		ticker := time.NewTicker(20 * time.Millisecond)
		defer ticker.Stop()
		begin, sent := time.Now(), make([]int64, len(streams))
		for now := begin; ; {
			for i, f := range p.streams {
				for float64(sent[i]) < f.rate*now.Sub(begin).Seconds() {
					if f.merged {
						s.send.SendMerged(frames[i])
						sent[i] += int64(mergedPackets * f.size)
					} else {
						s.send.Send(frames[i].Frame)
						sent[i] += int64(f.size)
					}
				}
			}
			p.note(time.Now(), sent)
			select {
			case now = <-ticker.C:
			case <-stop:
				return
			}
		}
	}()
	return p
}

func (p *pump) note(now time.Time, sent []int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at, p.sent = append(p.at, now), append(p.sent, slices.Clone(sent))
}

// rate gives the mean rate of those streams that chosen says, in bits a second between two times.
func (p *pump) rate(from, to time.Time, chosen func(stream) bool) float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	index := func(at time.Time) int {
		i, _ := slices.BinarySearchFunc(p.at, at, time.Time.Compare)
		return min(i, len(p.at)-1)
	}
	i, j := index(from), index(to)
	sum := int64(0)
	for k, f := range p.streams {
		if chosen(f) {
			sum += p.sent[j][k] - p.sent[i][k]
		}
	}
	return 8 * float64(sum) / p.at[j].Sub(p.at[i]).Seconds()
}

func to(ip string) func(stream) bool { return func(f stream) bool { return f.to == ip } }

func from(ip string) func(stream) bool { return func(f stream) bool { return f.from == ip } }

var quantity = regexp.MustCompile(`^([0-9.]+)\s([kMGTPE]?)(bit/s|B/s|B)$`)

// readQuantity reads a number with a unit, in that without a prefix.
func readQuantity(text, unit string) (float64, error) {
	m := quantity.FindStringSubmatch(text)
	if m == nil || m[3] != unit {
		return 0, fmt.Errorf("%q is no number of %s", text, unit)
	}
	if digits := strings.Count(m[1], "") - 1 - strings.Count(m[1], "."); digits > 3 {
		return 0, fmt.Errorf("%q has %d digits", text, digits)
	}
	v, err := strconv.ParseFloat(m[1], 64)
	return v * math.Pow(1000, float64(strings.Index(" kMGTPE", cmp.Or(m[2], " ")))), err
}

// near tells whether a number on the page is what is wanted, within a tolerance.
func near(what, text, unit string, want, tolerance float64) error {
	got, err := readQuantity(text, unit)
	if err == nil && math.Abs(got-want) > tolerance*want {
		err = fmt.Errorf("%q is not within %v of %v", text, tolerance, want)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// row gives the texts of a row of the table, by the classes of its cells.
func (p *tab) row(ip string) (map[string]string, error) {
	p.t.Helper()
	rows := evaluate[map[string]map[string]string](p, `Object.fromEntries([...document.querySelectorAll("tbody tr")].map((r) => [
		r.querySelector(".ip").textContent,
		Object.fromEntries([...r.cells].map((c) => [c.classList[0], c.textContent.replaceAll("\u00a0", " ")]))]))`)
	if rows[ip] == nil {
		return nil, fmt.Errorf("%s is not in the table", ip)
	}
	return rows[ip], nil
}

// addresses gives those of the table, in its order.
func (p *tab) addresses() []string { p.t.Helper(); return p.texts("tbody .ip") }

// lists waits until the table has these addresses in this order.
func (p *tab) lists(want ...string) {
	p.t.Helper()
	eventually(p.t, func() error {
		if got := p.addresses(); !slices.Equal(got, want) {
			return fmt.Errorf("the table has %v, want %v", got, want)
		}
		return nil
	})
}

// reported gives the time of the report that is shown, and what its rates are means over.
func (p *tab) reported() (from, to time.Time, err error) {
	p.t.Helper()
	at := evaluate[float64](p, `import("/assets/page.js").then((m) => m.overview.ends[1])`)
	to = time.UnixMilli(int64(at * 1000))
	m := regexp.MustCompile(`over the last ([0-9.]+) s`).FindStringSubmatch(p.text("#window"))
	if m == nil {
		return from, to, errors.New("there are no rates yet")
	}
	window, err := strconv.ParseFloat(m[1], 64)
	return to.Add(-time.Duration(window * float64(time.Second))), to, err
}

const stranger = "192.0.2.1" // is not monitored

const monitored = "--monitor-subnets=10.0.0.0/8"

// rates compares what is shown with what is sent, for each backend.
func (s *stage) rates(t *testing.T) {
	traffic := s.start(t,
		stream{from: stranger, to: "10.0.0.1", rate: 500e3}, stream{from: "10.0.0.1", to: stranger, rate: 120e3},
		stream{from: stranger, to: "10.0.0.2", rate: 60e3}, stream{from: "10.0.0.3", to: "10.0.0.2", rate: 15e3, size: 100})
	ips := []string{"10.0.0.1", "10.0.0.2", "10.0.0.3"}
	all := serveEach(t, s.ns, "--interface=eth0", monitored)
	pages := map[string]*tab{}
	for name, p := range all {
		pages[name] = s.open(t, "http://"+p.address+"/", desktop)
	}
	compare := func(p *tab, unit string, bits float64) (err error) {
		from_, to_, err := p.reported()
		if err != nil {
			return err
		}
		const tolerance = 0.05
		expect := func(what, text string, chosen func(stream) bool) {
			if want := traffic.rate(from_, to_, chosen) / bits; want > 0 {
				err = errors.Join(err, near(what, text, unit, want, tolerance))
			} else if text != "0 "+unit {
				err = errors.Join(err, fmt.Errorf("%s: %q, want nothing", what, text))
			}
		}
		isMonitored := func(ip string) bool { return ip != stranger }
		received, transmitted := func(f stream) bool { return isMonitored(f.to) }, func(f stream) bool { return isMonitored(f.from) }
		expect("all, in", p.text("#receive-rate"), received)
		expect("all, out", p.text("#transmit-rate"), transmitted)
		data := evaluate[[3]float64](p, `import("/assets/page.js").then((m) => m.overview.data.map((d) => d.at(-1)))`)
		for i, chosen := range []func(stream) bool{received, transmitted} {
			if want := traffic.rate(from_, to_, chosen) / bits; math.Abs(data[i+1]-want) > tolerance*want {
				err = errors.Join(err, fmt.Errorf("the chart ends at %v, want %v", data[i+1], want))
			}
		}
		sum := traffic.rate(from_, to_, received) + traffic.rate(from_, to_, transmitted)
		for _, ip := range ips {
			row, e := p.row(ip)
			if e != nil {
				return errors.Join(err, e)
			}
			expect(ip+", in", row["receive-rate"], to(ip))
			expect(ip+", out", row["transmit-rate"], from(ip))
			share, e := strconv.ParseFloat(strings.TrimSuffix(row["share"], " %"), 64)
			want := (traffic.rate(from_, to_, to(ip)) + traffic.rate(from_, to_, from(ip))) / sum * 100
			if e != nil || math.Abs(share-want) > 0.5 {
				err = errors.Join(err, fmt.Errorf("%s has a share of %q, want %v %%", ip, row["share"], want))
			}
		}
		return err
	}
	for name, p := range pages {
		eventually(t, func() error { return compare(p, "bit/s", 1) })
		p.lists(ips...)
		if n := evaluate[int](p, `document.querySelectorAll("tbody .trend canvas").length`); n != len(ips) {
			t.Errorf("%s: %d rows have a small chart", name, n)
		}
		p.click("#units")
		eventually(t, func() error { return compare(p, "B/s", 8) })
		if label := p.text("#units"); !strings.Contains(label, "bytes") {
			t.Errorf("%s: the switch of units says %q", name, label)
		}
	}
	traffic.stop()
	for name, p := range pages {
		eventually(t, func() (err error) {
			in, out := 0.0, 0.0
			for ip, c := range hosts(t, all[name].get("/metrics")) {
				row, e := p.row(ip)
				if e != nil {
					return e
				}
				in, out = in+float64(c.receiveBytes), out+float64(c.transmitBytes)
				// Three digits.
				err = errors.Join(err, near(ip, row["receive-total"], "B", float64(c.receiveBytes), 0.005),
					near(ip, row["transmit-total"], "B", float64(c.transmitBytes), 0.005))
			}
			return errors.Join(err, near("all, in", p.text("#receive-total"), "B", in, 0.005),
				near("all, out", p.text("#transmit-total"), "B", out, 0.005))
		})
	}
}

// Talkers whose order is another one by each of their columns.
var ordered = []stream{
	{from: stranger, to: "10.0.0.5", rate: 100e3}, {from: "10.0.0.5", to: stranger, rate: 20e3},
	{from: stranger, to: "10.0.0.4", rate: 10e3}, {from: "10.0.0.4", to: stranger, rate: 300e3},
	{from: stranger, to: "10.0.0.20", rate: 50e3}, {from: "10.0.0.20", to: stranger, rate: 5e3},
	{from: stranger, to: "10.0.0.3", rate: 2e3}, {from: "10.0.0.3", to: stranger, rate: 1e3},
}

// called gives the flags with which promflow knows what addresses are called: of leases as dnsmasq has them.
func called(t *testing.T, hostnames map[string]string) []string {
	t.Helper()
	leases := ""
	for ip, hostname := range hostnames {
		leases += fmt.Sprintf("0 02:00:5e:10:00:%02x %s %s *\n", netip.MustParseAddr(ip).As4()[3], ip, hostname)
	}
	return []string{"--host-info", "--reverse-dns=false", "--lease-files=" + write(t, "leases", leases)}
}

// operated has somebody sort, filter and so on.
func (s *stage) operated(t *testing.T) {
	p := serve(t, s.ns, append(called(t, map[string]string{
		"10.0.0.3": "charlie", "10.0.0.4": "delta", "10.0.0.5": "bravo", "10.0.0.20": "alpha",
	}), "--interface=eth0", monitored)...)
	for _, f := range []stream{{from: stranger, to: "10.0.0.3"}, {from: "10.0.0.20", to: stranger}} {
		// What was moved before somebody looks makes another order.
		f.size, f.merged = 1400, true
		for range 1000 {
			s.send.SendMerged(f.frame())
		}
	}
	s.start(t, ordered...)
	at := "http://" + p.address + "/"
	t.Run("sort", func(t *testing.T) { s.sort(t, at) })
	t.Run("filter", func(t *testing.T) { s.filter(t, at) })
	t.Run("pause", func(t *testing.T) { s.pause(t, at) })
	t.Run("keyboard", func(t *testing.T) { s.keyboard(t, at) })
}

func (s *stage) sort(t *testing.T, at string) {
	p := s.open(t, at, desktop)
	p.lists("10.0.0.4", "10.0.0.5", "10.0.0.20", "10.0.0.3")
	for _, c := range []struct {
		column, first string // and the direction that it has at first
		want          []string
	}{
		{"ip", "ascending", []string{"10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.20"}},
		{"hostname", "ascending", []string{"10.0.0.20", "10.0.0.5", "10.0.0.3", "10.0.0.4"}},
		{"receive_rate", "descending", []string{"10.0.0.5", "10.0.0.20", "10.0.0.4", "10.0.0.3"}},
		{"transmit_rate", "descending", []string{"10.0.0.4", "10.0.0.5", "10.0.0.20", "10.0.0.3"}},
		{"receive_total", "descending", []string{"10.0.0.3", "10.0.0.5", "10.0.0.20", "10.0.0.4"}},
		{"transmit_total", "descending", []string{"10.0.0.20", "10.0.0.4", "10.0.0.5", "10.0.0.3"}},
		{"rate", "descending", []string{"10.0.0.4", "10.0.0.5", "10.0.0.20", "10.0.0.3"}},
	} {
		direction := c.first
		for _, reversed := range []bool{false, true} {
			p.click(fmt.Sprintf(`th[data-sort=%q] button`, c.column))
			p.lists(c.want...)
			sorted := evaluate[map[string]string](p, `Object.fromEntries([...document.querySelectorAll("th[aria-sort]")].map((h) =>
				[h.dataset.sort, h.getAttribute("aria-sort")]))`)
			if len(sorted) != 1 || sorted[c.column] != direction {
				t.Errorf("the headers say that the order is %v, want %s by %s", sorted, direction, c.column)
			}
			fragment := "sort=" + c.column
			if c.column == "rate" {
				fragment = ""
			}
			if reversed {
				fragment += "&reverse=true"
			}
			if got := evaluate[string](p, `location.hash.slice(1)`); got != strings.Trim(fragment, "&") {
				t.Errorf("the address has #%s, want #%s", got, fragment)
			}
			slices.Reverse(c.want)
			direction = map[string]string{"ascending": "descending", "descending": "ascending"}[direction]
		}
	}
}

func (s *stage) filter(t *testing.T, at string) {
	p := s.open(t, at, desktop)
	p.lists("10.0.0.4", "10.0.0.5", "10.0.0.20", "10.0.0.3")
	p.has("#count", "4 addresses")
	p.press("/")
	for _, c := range []struct {
		filter string
		want   []string
		count  string
	}{
		{"10.0.0.2", []string{"10.0.0.20"}, "1 of 4 addresses"},
		{"10.0.0.0/29", []string{"10.0.0.4", "10.0.0.5", "10.0.0.3"}, "3 of 4 addresses"},
		{"Bravo", []string{"10.0.0.5"}, "1 of 4 addresses"},
		{"5e:10:00:14", []string{"10.0.0.20"}, "1 of 4 addresses"},
		{"nobody", nil, "0 of 4 addresses"},
	} {
		p.do(chromedp.SendKeys(chromedp.ID("filter"), c.filter))
		p.lists(c.want...)
		p.has("#count", c.count)
		p.has("#status", c.count)
		if got := evaluate[bool](p, `document.getElementById("nothing").hidden`); got != (c.want != nil) {
			t.Errorf("that there is nothing is hidden: %v", got)
		}
		if strings.Contains(c.filter, "/") { // which a link has in other words
			again := s.open(t, evaluate[string](p, "location.href"), desktop)
			again.lists(c.want...)
			if got := evaluate[string](again, `document.getElementById("filter").value`); got != c.filter {
				t.Errorf("a link has the filter %q, want %q", got, c.filter)
			}
		}
		p.press(kb.Escape)
		p.lists("10.0.0.4", "10.0.0.5", "10.0.0.20", "10.0.0.3")
		if got := evaluate[string](p, "location.href"); got != at {
			t.Errorf("without a filter the page is at %s", got)
		}
	}
	p.allow("400") // which the browser tells of
	p.do(chromedp.SetValue(chromedp.ID("filter"), strings.Repeat("ü", 200)), chromedp.SendKeys(chromedp.ID("filter"), "!"))
	p.has("#alerts [role=alert]", "promflow does not answer as it should.")
	p.has("#alerts", "expected at most 253 bytes")
	p.press(kb.Escape)
	p.has("#status", "promflow answers again.")

	linked := s.open(t, at+"#sort=ip&reverse=true&filter=10.0.0.0%2F29&limit=100", phone)
	linked.lists("10.0.0.5", "10.0.0.4", "10.0.0.3")
	// Another link, to the same page.
	evaluate[string](linked, `location.hash = "sort=ip"`)
	linked.lists("10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.20")
}

func (s *stage) pause(t *testing.T, at string) {
	p := s.open(t, at, desktop)
	p.has("#receive-rate", "bit/s")
	p.click("#pause")
	p.has("#status", "Paused")
	p.has("#as-of", "Paused at")
	content := func() string {
		return p.text("tbody") + p.text(".all") + p.text("#as-of") + evaluate[string](p, `import("/assets/page.js").then((m) => JSON.stringify(m.overview.data))`)
	}
	still, asked := content(), p.questions(talkers.Path)
	eventually(t, func() error {
		if n := p.questions(talkers.Path) - asked; n < 2 {
			return fmt.Errorf("%d questions in a pause", n)
		}
		return nil
	})
	if got := content(); got != still {
		t.Errorf("in a pause the page became\n%s\nfrom\n%s", got, still)
	}
	// What somebody asks for meanwhile is shown.
	p.click(`th[data-sort="ip"] button`)
	p.lists("10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.20")
	p.has("#as-of", "Paused at")
	still = content()
	p.click("#pause")
	// It shows at once what it has: nothing is missing.
	if got := content(); got == still {
		t.Errorf("after a pause the page has still\n%s", got)
	}
	if gaps := evaluate[int](p, `import("/assets/page.js").then((m) => m.overview.data[1].filter((v) => v === null).length)`); gaps != 0 {
		t.Errorf("a pause left %d gaps", gaps)
	}
	p.has("#as-of", "As of")
}

func (s *stage) keyboard(t *testing.T, at string) {
	p := s.open(t, at, desktop)
	p.lists("10.0.0.4", "10.0.0.5", "10.0.0.20", "10.0.0.3")
	focused := func() string {
		return evaluate[string](p, `(() => {
			const e = document.activeElement;
			if (e === document.body) return "";
			const outline = getComputedStyle(e);
			return (e.id || e.textContent) + (outline.outlineStyle === "none" || outline.outlineWidth === "0px" ? " without focus to be seen" : "");
		})()`)
	}
	var order []string
	for range 30 {
		p.press(kb.Tab)
		at := focused()
		if at == "" {
			break
		}
		order = append(order, at)
	}
	want := []string{"pause", "units", "theme", "view-live", "by-ip", "filter", "Address", "Name", "In", "Out", "Total in", "Total out", "Share",
		"10.0.0.4", "10.0.0.5", "10.0.0.20", "10.0.0.3", "keys", "Metrics for Prometheus", "json", "Charts by uPlot"}
	if !slices.Equal(order, want) {
		t.Errorf("Tab leads to %q, want %q", order, want)
	}

	focus := func(selector string) { evaluate[any](p, `void document.querySelector(%v).focus()`, selector) }
	focus(`th[data-sort="ip"] button`)
	p.press(kb.Enter)
	p.lists("10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.20")
	p.press(" ")
	p.lists("10.0.0.20", "10.0.0.5", "10.0.0.4", "10.0.0.3")

	p.press("u")
	p.has("#units", "bytes")
	p.press("t")
	p.has("#theme", "light")
	p.press("p")
	p.has("#pause", "Resume")
	p.press("p")
	p.has("#pause", "Pause")
	p.press("/")
	if got := focused(); got != "filter" {
		t.Errorf("/ leads to %q", got)
	}
	p.press("p", "u", "t", "/") // are text there
	p.has("#count", "0 of 4")
	if got := evaluate[string](p, `document.getElementById("filter").value`); got != "put/" {
		t.Errorf("the filter is %q", got)
	}
	p.press(kb.Escape)
	p.has("#count", "4 addresses")
	for id, want := range map[string]string{"#units": "bytes", "#theme": "light", "#pause": "Pause"} {
		if got := p.text(id); !strings.Contains(got, want) {
			t.Errorf("%s is %q after typing, want %q", id, got, want)
		}
	}
	focus("#pause")
	p.pressWith(kb.ModifierAlt, "u")
	p.pressWith(kb.ModifierCtrl, "u")
	focus("#keys")
	p.press(" ", "u")
	if got := p.text("#units"); !strings.Contains(got, "bytes") {
		t.Errorf("with other keys held, or keys off, u makes the units %q", got)
	}
}

// settings are kept, and the theme is the system's until somebody chooses.
func (s *stage) settings(t *testing.T) {
	p := s.open(t, newMade(t, s.ns, plausible()).address, desktop)
	background := func() string {
		return evaluate[string](p, `getComputedStyle(document.body).backgroundColor + " " + getComputedStyle(document.body).color`)
	}
	light := background()
	p.show(desktopDark)
	dark := background()
	if light == dark {
		t.Errorf("light and dark have the same colours: %s", dark)
	}
	for _, theme := range []struct{ name, colours string }{{"light", light}, {"dark", dark}} {
		p.click("#theme")
		for _, on := range []screen{desktop, desktopDark} {
			p.show(on)
			p.do(chromedp.Reload())
			p.has("#theme", theme.name)
			if got := background(); got != theme.colours {
				t.Errorf("%s on %v has %s, want %s", theme.name, on, got, theme.colours)
			}
		}
	}
	p.click("#theme")
	p.has("#theme", "auto")
	p.click("#units")
	p.click("#keys")
	p.do(chromedp.Reload())
	p.has("#units", "bytes")
	p.has("#receive-rate", "B/s")
	if evaluate[bool](p, `document.getElementById("keys").checked`) {
		t.Error("that keys are off is not kept")
	}
}

// longest is how long the page may be busy with an update, in ms.
const longest = 200

// many measures how long an update takes with a table of a whole /16.
func (s *stage) many(t *testing.T) {
	p := serve(t, s.ns, "--interface=eth0", monitored)
	frame := nettest.UDP(netip.MustParseAddr(stranger), netip.MustParseAddr("10.1.0.0"), 100)
	for i := range 1 << 16 {
		binary.BigEndian.PutUint16(frame[14+18:], uint16(i)) // the destination's second half
		s.send.Send(frame)
	}
	var streams []stream
	for i := range 1000 {
		streams = append(streams, stream{from: stranger, to: fmt.Sprintf("10.1.%d.%d", i>>8, i&255), rate: float64(500 + 3*i), size: 500})
	}
	s.start(t, streams...)
	page := s.open(t, "http://"+p.address+"/", desktop)
	page.has("#count", "65,536 addresses")
	page.has("#alerts", "The table is full. There is room for 65,536 addresses")

	page.click("#more")
	page.has("#shown", "100 of 65,536 shown")
	page.press("/")
	page.do(chromedp.SendKeys(chromedp.ID("filter"), "10.1.200.0/24"))
	page.has("#count", "256 of 65,536 addresses")
	page.press(kb.Escape)
	page.has("#count", "65,536 addresses")
	page.has("#shown", "50 of 65,536 shown")

	// Each time another question, which promflow has no answer to yet, and numbers that are all new, in another order.
	const measure = `(async () => {
		const { show } = await import("/assets/page.js");
		const painted = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
		const handled = [], all = [];
		for (let i = 0; i < 8; i++) {
			await painted();
			const begin = performance.now();
			const text = await (await fetch("/api/v1/talkers?limit=" + (%v - i))).text();
			const answered = performance.now();
			const report = JSON.parse(text);
			for (const k of report.talkers) {
				k.receive_bytes_per_second = Math.round(1e6 * Math.random());
				k.receive_bytes += Math.round(1e9 * Math.random());
				k.share = Math.random();
				k.history = k.history.map(() => 1e6 * Math.random());
			}
			report.talkers.sort((a, b) => b.receive_bytes_per_second - a.receive_bytes_per_second);
			show(report);
			await null; // charts are drawn after what has been asked of them
			document.body.offsetHeight;
			handled.push(performance.now() - answered);
			await painted();
			all.push(performance.now() - begin);
		}
		return { handled, all };
	})()`
	update := func(limit int) {
		took := evaluate[struct{ Handled, All []float64 }](page, measure, limit)
		summary := func(ms []float64) string {
			slices.Sort(ms)
			return fmt.Sprintf("median %.0f ms, at most %.0f ms", ms[len(ms)/2], ms[len(ms)-1])
		}
		t.Logf("%d rows: an update takes %s; from the question to what is seen %s", limit, summary(took.Handled), summary(took.All))
		if most := slices.Max(took.Handled); limit == talkers.DefaultLimit && most >= longest {
			t.Errorf("an update takes %v ms", most)
		}
	}
	update(talkers.DefaultLimit)
	// The page's own updates.
	asked := page.questions(talkers.Path)
	evaluate[any](page, `void (window.long = [], new PerformanceObserver((list) =>
		long.push(...list.getEntries().map((e) => e.duration))).observe({ type: "longtask" }))`)
	eventually(t, func() error {
		if n := page.questions(talkers.Path) - asked; n < 3 {
			return fmt.Errorf("%d questions", n)
		}
		return nil
	})
	if long := evaluate[[]float64](page, `long`); len(long) > 0 && slices.Max(long) >= longest {
		t.Errorf("the page was busy for %v ms at a time", long)
	}

	page = s.open(t, "http://"+p.address+"/#limit=1000", desktop)
	page.has("#shown", "1,000 of 65,536 shown")
	update(talkers.MaxLimit)
	// Small charts are drawn where they are seen.
	evaluate[any](page, `void document.querySelector("tbody tr:last-child").scrollIntoView()`)
	eventually(t, func() error {
		drawn := evaluate[[]bool](page, `[...document.querySelectorAll("tbody .trend")].map((e) => e.childElementCount > 0)`)
		if n := len(drawn); !drawn[n-1] || !slices.Contains(drawn, false) {
			return fmt.Errorf("of %d rows, the last one drawn: %v", n, drawn[n-1])
		}
		return nil
	})
}

// accessible has axe-core look at the page in all of its states.
func (s *stage) accessible(t *testing.T) {
	if axe == "" {
		nettest.Lacks(t, "PROMFLOW_TEST_AXE, the path of axe-core's axe.min.js")
	}
	troubled := plausible()
	troubled.Names = false
	troubled.Addresses = troubled.AddressesLimit
	troubled.Interfaces = append(troubled.Interfaces, talkers.Interface{Name: "eth1", Backend: "ebpf"})
	troubled.Interfaces[0].Dropped, troubled.Interfaces[0].DroppedRate = 12345, 120.5
	empty := talkers.Report{Time: time.Now(), IntervalSeconds: 2, AddressesLimit: 65536, Talkers: []talkers.Talker{},
		History:    talkers.History{Time: []float64{}, Receive: []int64{}, Transmit: []int64{}},
		Interfaces: []talkers.Interface{{Name: "eth0", Backend: "ebpf", Up: true}}, Monitored: []talkers.Subnet{}}
	for _, c := range []struct {
		name   string
		report talkers.Report
		shows  string
		keys   []string
	}{
		{"names", plausible(), "192.168.1.10", nil},
		{"alerts, paused, without names", troubled, "192.168.1.10", []string{"p"}},
		{"empty", empty, "No addresses yet", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := s.open(t, newMade(t, s.ns, c.report).address, desktop)
			p.has("main", c.shows)
			p.press(c.keys...)
			for _, on := range []screen{desktop, desktopDark, phone, phoneDark} {
				p.show(on)
				p.audit(fmt.Sprint(on))
				if width := evaluate[int64](p, `document.documentElement.scrollWidth`); width > on.width {
					t.Errorf("on %v the page is %d wide", on, width)
				}
			}
			p.show(screen{320, 800, false}) // as a desktop at 400 %
			if cut := evaluate[[]string](p, `[...document.querySelectorAll("tbody .name")].filter((e) => e.scrollWidth > e.clientWidth)
				.map((e) => e.textContent)`); len(cut) > 0 {
				t.Errorf("where there is little room, names are cut off: %q", cut)
			}
		})
	}
}

func (s *stage) alerts(t *testing.T) {
	m := newMade(t, s.ns, often())
	p := s.open(t, m.address, desktop)
	p.has("#interfaces", "eth0 ebpf")
	if got := p.text("#alerts"); got != "" {
		t.Errorf("alerts are %q where nothing is the matter", got)
	}
	for _, c := range []struct {
		name, alert, text, over string
		set                     func(*talkers.Report)
	}{
		{"interface", "eth0 is down.", "Nothing is counted there", "All interfaces are up again.",
			func(r *talkers.Report) { r.Interfaces[0].Up = false }},
		{"several", "2 interfaces are down: eth0, eth1.", "Nothing is counted there", "All interfaces are up again.",
			func(r *talkers.Report) {
				r.Interfaces[0].Up = false
				r.Interfaces = append(r.Interfaces, talkers.Interface{Name: "eth1", Backend: "ebpf"}, talkers.Interface{Name: "gone"})
			}},
		{"full", "The table is full.", "65,536 addresses (--max-ips)", "The table has room again.",
			func(r *talkers.Report) { r.Addresses = r.AddressesLimit }},
		{"drops", "Packets are being dropped.", "120.5 packets a second, 12,345 in all, on eth0", "No packets are being dropped any more.",
			func(r *talkers.Report) {
				r.Interfaces[0].Dropped, r.Interfaces[0].DroppedRate = 12345, 120.5
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m.change(func(m *made) { m.report = often(); c.set(&m.report) })
			p.has("#alerts [role=alert]", c.alert)
			p.has("#alerts span", c.text)
			m.change(func(m *made) {
				m.report = often()
				m.report.Time = time.Now().Add(time.Minute) // drops are told of for a while
			})
			eventually(t, func() error {
				if got := p.text("#alerts"); got != "" {
					return fmt.Errorf("alerts are still %q", got)
				}
				return nil
			})
			p.has("#status", c.over)
		})
	}

	// The clock is set back after the drops, and what is over at the same time is said together.
	m.change(func(m *made) {
		m.report = often()
		m.report.Interfaces[0].Dropped, m.report.Interfaces[0].DroppedRate = 12345, 120.5
	})
	p.has("#alerts", "Packets are being dropped.")
	m.change(func(m *made) {
		m.report = often()
		m.report.Addresses = m.report.AddressesLimit
		m.report.Time = time.Now().Add(-time.Hour)
	})
	p.has("#alerts", "The table is full.")
	m.change(func(m *made) { m.report = often(); m.report.Time = time.Now().Add(-time.Hour + time.Minute) })
	p.has("#status", "No packets are being dropped any more. The table has room again.")
}

// hostile has names that are HTML, which anybody in the network may give themselves.
func (s *stage) hostile(t *testing.T) {
	const tag = `<img src=x onerror=alert(1)>`
	r := plausible()
	for i, name := range []string{tag, `"><script>alert(1)</script>`, "\u202etxt.exe", strings.Repeat("a", 253), `javascript:alert(1)`} {
		r.Talkers[i].Hostname, r.Talkers[i].MAC = name, tag
	}
	r.Interfaces[0] = talkers.Interface{Name: tag, Backend: tag, Dropped: 1, DroppedRate: 1}
	m := newMade(t, s.ns, r)
	for _, on := range []screen{desktop, phone} {
		p := s.open(t, m.address, on)
		p.has("#alerts", tag+" is down")
		p.has("tbody .hostname", tag)
		p.has("tbody .mac", tag)
		if n := evaluate[int](p, `document.querySelectorAll("main img, main script, tbody a:not([href^='#']), #interfaces img").length`); n != 0 {
			t.Errorf("%d elements are made of names", n)
		}
		if width := evaluate[int64](p, `document.documentElement.scrollWidth`); width > on.width {
			t.Errorf("on %v the page is %d wide", on, width)
		}
	}
	m.change(func(m *made) {
		m.report.Talkers[0].Hostname, m.report.Talkers[0].MAC = "\u202etxt.exe", "02:00:00:00:00:01"
	})
	turned := s.open(t, m.address, desktop)
	turned.has("tbody .mac", "02:00:00:00:00:01")
	if !evaluate[bool](turned, `(() => {
		const [name, mac] = ["hostname", "mac"].map((c) => document.querySelector("tbody ." + c));
		const begin = new Range();
		begin.setStart(mac.firstChild, 0);
		begin.setEnd(mac.firstChild, 1);
		const [left, right] = [begin.getBoundingClientRect(), mac.getBoundingClientRect()];
		return name.getBoundingClientRect().right <= left.left && left.right < right.right - 10;
	})()`) {
		t.Error("a name turns the MAC address beside it")
	}
	filtered := s.open(t, m.address+"/#filter="+url.QueryEscape(tag)+"&sort=__proto__&limit=1e9&reverse=maybe", desktop)
	filtered.has("tbody", tag)
	if got := evaluate[string](filtered, `document.getElementById("filter").value`); got != tag {
		t.Errorf("the filter is %q", got)
	}
}

// scrolled has the order change above what is seen.
func (s *stage) scrolled(t *testing.T) {
	r := often()
	for i := range 100 {
		k := r.Talkers[0]
		k.IP = fmt.Sprintf("192.168.2.%d", i)
		r.Talkers = append(r.Talkers, k)
	}
	r.Matching = len(r.Talkers)
	m := newMade(t, s.ns, r)
	p := s.open(t, m.address, desktop)
	p.has("tbody", "192.168.2.99")
	at := evaluate[float64](p, `(scrollTo(0, 2000), scrollY)`)
	for range 3 {
		last := len(r.Talkers) - 1
		r.Talkers = append([]talkers.Talker{r.Talkers[last]}, r.Talkers[:last]...)
		m.change(func(m *made) { m.report = r })
		p.has("tbody .ip", r.Talkers[0].IP)
		const painted = `new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(scrollY))))`
		if got := evaluate[float64](p, painted); got != at {
			t.Fatalf("the page moved from %v to %v by itself", at, got)
		}
	}
}

func (s *stage) gaps(t *testing.T) {
	r := plausible()
	p := s.open(t, newMade(t, s.ns, r).address, desktop)
	p.has("tbody", "192.168.1.10")
	got := evaluate[struct {
		Ends []float64
		Gaps []float64 // times
		N    int
	}](p, `import("/assets/page.js").then(({ overview: { data, ends } }) => ({
		ends, gaps: data[0].filter((_, i) => data[1][i] === null && data[2][i] === null), n: data[0].length }))`)
	if now := float64(r.Time.UnixMilli()) / 1000; got.Ends[1] != now || got.Ends[0] != now-300 {
		t.Errorf("the chart is from %v to %v, want five minutes until %v", got.Ends[0], got.Ends[1], now)
	} else if len(got.Gaps) != 1 || now-got.Gaps[0] < 200 || now-got.Gaps[0] > 240 || got.N != len(r.History.Time)+1 {
		t.Errorf("of %d points there are gaps at %v", got.N, got.Gaps)
	}
	description := evaluate[string](p, `document.getElementById("chart").getAttribute("aria-label")`)
	if !strings.Contains(description, "In: "+p.text("#receive-rate")+" now") {
		t.Errorf("the chart is described as %q", description)
	}
}

// hidden has the page not ask while nobody sees it.
func (s *stage) hidden(t *testing.T) {
	m := newMade(t, s.ns, often())
	p, other := s.open(t, m.address, desktop), s.open(t, m.address, desktop)
	p.has("tbody", "192.168.1.10")
	const set = `(() => {
		Object.defineProperty(document, "hidden", { value: %v, configurable: true });
		document.dispatchEvent(new Event("visibilitychange"));
	})()`
	hide := func(hidden bool) int { evaluate[any](p, set, hidden); return p.questions(talkers.Path) }
	asked, others := hide(true), other.questions(talkers.Path)
	eventually(t, func() error {
		if n := other.questions(talkers.Path) - others; n < 10 {
			return fmt.Errorf("the other page has asked %d times", n)
		}
		return nil
	})
	if n := p.questions(talkers.Path) - asked; n != 0 {
		t.Errorf("a hidden page has asked %d times", n)
	}
	m.change(func(m *made) { m.report.ReceiveRate = 125 })
	hide(false)
	p.has("#receive-rate", "1.00 kbit/s")
}

func (s *stage) away(t *testing.T) {
	m := newMade(t, s.ns, often())
	p := s.open(t, m.address, desktop)
	p.has("tbody", "192.168.1.10")
	p.allow("ERR_EMPTY_RESPONSE") // which a browser tells of, whatever the page does
	m.change(func(m *made) { m.away = true })
	p.has("#alerts [role=alert]", "promflow can’t be reached.")
	p.has("#alerts", "Since ")
	p.has("tbody", "192.168.1.10")
	m.change(func(m *made) { m.away = false; m.report.ReceiveRate = 125 })
	p.has("#status", "promflow is back.")
	p.has("#receive-rate", "1.00 kbit/s")
	if got := p.text("#alerts"); got != "" {
		t.Errorf("alerts are still %q", got)
	}

	// What is no report, such as a proxy's own answer, and one that cannot be shown.
	report := m.report
	m.change(func(m *made) { m.report.Talkers = nil })
	p.has("#alerts", "what it answers is no report")
	m.change(func(m *made) { m.report = report; m.report.Interfaces = nil })
	p.allow("TypeError")
	asked := p.questions(talkers.Path)
	eventually(t, func() error {
		if p.questions(talkers.Path) < asked+2 {
			return errors.New("the page has given up")
		}
		return nil
	})
}

// subnets has the page follow what is monitored, from one reload to the next.
func (s *stage) subnets(t *testing.T) {
	file := write(t, "subnets", "lan=10.0.0.0/8")
	p := serve(t, s.ns, "--interface=eth0", "--monitor-subnets=192.168.7.0/24,@"+file)
	page := s.open(t, "http://"+p.address+"/", desktop)
	var many []string
	for i := range 20 {
		many = append(many, fmt.Sprintf("10.%d.0.0/16", i))
	}
	for _, c := range []struct{ file, want string }{
		{"lan=10.0.0.0/8", "Monitored: 192.168.7.0/24, lan 10.0.0.0/8."},
		{"lan=10.0.0.0/8, office=2001:db8::/32", "Monitored: 192.168.7.0/24, lan 10.0.0.0/8, office 2001:db8::/32."},
		{"# nothing", "Monitored: 192.168.7.0/24."},
		{strings.Join(many, "\n"), "Monitored: 192.168.7.0/24, 10.0.0.0/16, 10.1.0.0/16, 10.2.0.0/16, 10.3.0.0/16, 10.4.0.0/16, 10.5.0.0/16, 10.6.0.0/16, and 13 more."},
	} {
		if err := os.WriteFile(file, []byte(c.file), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		eventually(t, func() error {
			if got := page.text("#monitored"); got != c.want {
				return fmt.Errorf("with %q in the file the page says %q, want %q", c.file, got, c.want)
			}
			return nil
		})
	}
}

// proxied has the page below a path of another server, which browsers resolve its files against.
func (s *stage) proxied(t *testing.T) {
	p := serve(t, s.ns, "--interface=eth0", monitored)
	target, err := url.Parse("http://" + p.address)
	if err != nil {
		t.Fatal(err)
	}
	proxy := http.StripPrefix("/promflow", &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target); r.Out.Host = r.In.Host }, Transport: p.client.Transport,
	})
	mux := http.NewServeMux()
	mux.Handle("/promflow", proxy)
	mux.Handle("/promflow/", proxy)
	server := serveInside(t, s.ns, mux)

	const shown = `getComputedStyle(document.querySelector(".incomplete")).display !== "none"`
	page := s.open(t, server+"/promflow", desktop)
	page.allow("/assets/") // are not found, which a browser tells of
	page.do(chromedp.Reload())
	page.complaints()
	if text := page.text(".incomplete"); !evaluate[bool](page, shown) || !strings.Contains(text, "open it with a slash at the end") {
		t.Errorf("without a slash the page does not say what to open: %q", text)
	}

	page = s.open(t, server+"/promflow/", desktop)
	page.has("#as-of", "As of")
	page.has("#interfaces", "eth0")
	if evaluate[bool](page, shown) {
		t.Error("the page says that it is incomplete")
	}
	if page.questions(server+"/promflow"+talkers.Path) == 0 {
		t.Error("the page does not ask the proxy")
	}
	for _, link := range evaluate[[]string](page, `[...document.querySelectorAll("nav a")].map((a) => a.href)`) {
		if status := evaluate[int](page, `fetch(%v).then((r) => r.status)`, link); !strings.HasPrefix(link, server+"/promflow/") || status != http.StatusOK {
			t.Errorf("%s has status %d", link, status)
		}
	}
}

// policy shows that what is not promflow's own file does not run.
func (s *stage) policy(t *testing.T) {
	m := newMade(t, s.ns, plausible())
	p := s.open(t, m.address, desktop)
	const want = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
		"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	if got := evaluate[string](p, `fetch("/").then((r) => r.headers.get("Content-Security-Policy"))`); got != want {
		t.Errorf("the policy is %q, want %q", got, want)
	}
	got := evaluate[[]string](p, `(async () => {
		const violations = new Set();
		addEventListener("securitypolicyviolation", (e) => violations.add(e.effectiveDirective));
		const script = document.createElement("script");
		script.textContent = "window.ran = true";
		document.body.append(script);
		document.body.setAttribute("onclick", "window.ran = true");
		document.body.click();
		document.body.insertAdjacentHTML("beforeend", '<p style="color: red">');
		const image = document.createElement("img");
		image.src = "http://192.0.2.1/";
		document.body.append(image);
		await fetch("http://192.0.2.1/").catch(() => {});
		while (violations.size < 5) await new Promise((done) => setTimeout(done, 10));
		return [...[...violations].sort(), String(window.ran)];
	})()`)
	if want := []string{"connect-src", "img-src", "script-src-attr", "script-src-elem", "style-src-attr", "undefined"}; !slices.Equal(got, want) {
		t.Errorf("violations are %v, want %v", got, want)
	}
	if len(p.complaints()) == 0 {
		t.Error("a browser that finds violations says so, but no test would hear of it")
	}
}

// authentication has the page behind what --web-config-file says.
func (s *stage) authentication(t *testing.T) {
	certificate, key, _ := selfSigned(t)
	hash, err := bcrypt.GenerateFromPassword([]byte("sesame"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	p := serve(t, s.ns, "--interface=eth0", monitored, "--web-config-file="+write(t, "web.yml", fmt.Sprintf(
		"tls_server_config: {cert_file: %s, key_file: %s}\nbasic_auth_users: {ali: %s}\n", certificate, key, hash)))
	page := s.open(t, "about:blank", desktop)
	page.origin = "https://" + p.address
	page.do(call(security.SetIgnoreCertificateErrors, security.SetIgnoreCertificateErrorsParams{Ignore: true}))
	page.allow("401")
	refused := chromedp.Do(page.ctx, chromedp.Navigate("https://"+p.address+"/"))
	if refused == nil && page.text("h1") != "" {
		t.Error("the page is there without a password")
	}
	page.do(chromedp.Navigate("https://ali:sesame@" + p.address + "/"))
	page.has("#as-of", "As of")
	page.has("#interfaces", "eth0")
}

func TestNoUI(t *testing.T) {
	p := serve(t, nettest.NewNamespace(t), "--interface=lo", "--no-ui")
	if page := p.get("/"); !strings.Contains(page, "for Prometheus to scrape") || strings.Contains(page, "assets/") {
		t.Errorf("the landing page is\n%s", page)
	}
	for _, path := range []string{talkers.Path, "/assets/page.js"} {
		if _, err := p.try(path); err == nil || !strings.Contains(err.Error(), "404") {
			t.Errorf("%s: %v, want 404", path, err)
		}
	}
}

// screenshots are those of the README: a small network on a busy evening.
func (s *stage) screenshots(t *testing.T) {
	const lan = "192.168.1."
	p := serve(t, s.ns, append(called(t, map[string]string{
		lan + "1": "router.lan", lan + "10": "nas.lan", lan + "20": "living-room-tv.lan", lan + "31": "alice-laptop.lan",
		lan + "33": "alice-phone.lan", lan + "42": "bob-desktop.lan", lan + "57": "office-camera.lan", lan + "61": "printer.lan",
		lan + "70": "thermostat.lan", lan + "71": "doorbell.lan", lan + "72": "solar.lan",
	}), "--interface=eth0", "--monitor-subnets=192.168.1.0/24")...)
	traffic := []stream{
		{from: stranger, to: lan + "20", rate: 31e6, size: 1400, merged: true}, {from: lan + "20", to: stranger, rate: 400e3},
		{from: stranger, to: lan + "31", rate: 9e6, size: 1400, merged: true}, {from: lan + "31", to: stranger, rate: 150e3},
		{from: lan + "10", to: stranger, rate: 5.5e6, size: 1400, merged: true}, {from: stranger, to: lan + "10", rate: 90e3},
		{from: stranger, to: lan + "42", rate: 1.1e6}, {from: lan + "42", to: stranger, rate: 60e3},
		{from: stranger, to: lan + "57", rate: 420e3}, {from: lan + "57", to: stranger, rate: 310e3},
		{from: stranger, to: lan + "33", rate: 77e3}, {from: lan + "33", to: stranger, rate: 21e3},
		{from: lan + "10", to: lan + "20", rate: 48e3},
		{from: stranger, to: lan + "61", rate: 15e3, size: 200}, {from: lan + "61", to: stranger, rate: 9e3, size: 200},
		{from: lan + "70", to: stranger, rate: 4e3, size: 200}, {from: stranger, to: lan + "71", rate: 2.2e3, size: 200},
		{from: lan + "72", to: stranger, rate: 900, size: 120}, {from: stranger, to: lan + "80", rate: 300, size: 80},
		{from: lan + "1", to: lan + "255", rate: 150, size: 60},
	}
	page := s.open(t, "http://"+p.address+"/", desktop)
	rates := make([]float64, len(traffic))
	for i := range traffic {
		rates[i] = traffic[i].rate
	}
	random := rand.New(rand.NewPCG(1, 2))
	sending := s.start(t)
	for range 75 { // a bit more than five minutes
		for i := range traffic { // up and down, but not beyond
			f := &traffic[i]
			f.rate = rates[i] * min(max(f.rate/rates[i]+random.NormFloat64()/5, 0.2), 1.8)
		}
		sending.stop()
		sending = s.start(t, traffic...)
		asked := page.questions(talkers.Path)
		eventually(t, func() error {
			if page.questions(talkers.Path) < asked+2 {
				return errors.New("the page does not ask")
			}
			return nil
		})
	}
	for name, on := range map[string]screen{"light": {1280, 835, false}, "dark": {1280, 835, true}, "phone": {375, 760, false}} {
		page.show(on)
		page.has("#as-of", "As of")
		seen, err := png.Decode(bytes.NewReader(page.screenshot()))
		if err != nil {
			t.Fatal(err)
		}
		var small bytes.Buffer
		if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&small, paletted(seen)); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join("..", "web", "ui", "screenshot-"+name+".png"), small.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// paletted is an image with its 256 most frequent colours, which is all that a page like this needs.
func paletted(of image.Image) *image.Paletted {
	counts := map[color.Color]int{}
	b := of.Bounds()
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			counts[of.At(x, y)]++
		}
	}
	frequent := slices.SortedFunc(maps.Keys(counts), func(x, y color.Color) int { return counts[y] - counts[x] })
	p := image.NewPaletted(b, frequent[:min(len(frequent), 256)])
	draw.Draw(p, b, of, b.Min, draw.Src)
	return p
}

// made serves the page, and for it a report that was made up.
type made struct {
	address string

	mu     sync.Mutex
	report talkers.Report
	away   bool
}

// newMade serves within a namespace.
func newMade(t *testing.T, ns *nettest.Namespace, r talkers.Report) *made {
	t.Helper()
	m := &made{report: r}
	mux := http.NewServeMux()
	mux.Handle("/", ui.Handler())
	mux.HandleFunc(talkers.Path, func(w http.ResponseWriter, _ *http.Request) {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.away {
			panic(http.ErrAbortHandler)
		}
		body, err := json.Marshal(m.report)
		if err != nil {
			t.Error(err)
		}
		_, _ = w.Write(body) // a page that is hidden or closed has gone away
	})
	m.address = serveInside(t, ns, mux)
	return m
}

// serveInside serves within a namespace, and gives the URL.
func serveInside(t *testing.T, ns *nettest.Namespace, h http.Handler) string {
	t.Helper()
	server := httptest.NewUnstartedServer(h)
	server.Listener.Close()
	server.Listener = ns.Listen("127.0.0.1:0")
	server.Start()
	t.Cleanup(server.Close)
	return server.URL
}

// change changes the report, and what else there is.
func (m *made) change(f func(m *made)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f(m)
}

// often is plausible with more readings, so that a test need not wait.
func often() talkers.Report {
	r := plausible()
	r.IntervalSeconds = 0.2
	return r
}

// plausible is a report as a small network may have it. For a while nobody watched.
func plausible() talkers.Report {
	now := time.Now()
	r := talkers.Report{
		Time: now, WindowSeconds: 4, IntervalSeconds: 2,
		Addresses: 12, AddressesLimit: 65536, Matching: 12, Names: true,
		Interfaces: []talkers.Interface{{Name: "eth0", Backend: "ebpf", Up: true}},
		Monitored:  []talkers.Subnet{{Subnet: "192.168.1.0/24", Network: "lan"}},
	}
	for i := range 12 {
		rate := int64(60e6 / math.Pow(2.3, float64(i)))
		k := talkers.Talker{
			IP: fmt.Sprintf("192.168.1.%d", 10+i), Hostname: fmt.Sprintf("host%d.lan", i), MAC: fmt.Sprintf("02:00:00:00:00:%02x", i),
			Traffic: talkers.Traffic{ReceiveRate: rate, TransmitRate: rate / 7, ReceiveTotal: 1000 * rate, TransmitTotal: 200 * rate},
		}
		for j := range 30 {
			k.History = append(k.History, int64(float64(rate)*(1.1+math.Sin(float64(i+j)/3))))
		}
		r.ReceiveRate += k.ReceiveRate
		r.TransmitRate += k.TransmitRate
		r.ReceiveTotal += k.ReceiveTotal
		r.TransmitTotal += k.TransmitTotal
		r.Talkers = append(r.Talkers, k)
	}
	for i := range r.Talkers {
		k := &r.Talkers[i]
		k.Share = float64(k.ReceiveRate+k.TransmitRate) / float64(r.ReceiveRate+r.TransmitRate)
	}
	for ago := 300; ago >= 0; ago -= 2 {
		if ago > 200 && ago < 240 {
			continue
		}
		wave := 1 + math.Sin(float64(ago)/20)/2
		r.History.Time = append(r.History.Time, float64(now.UnixMilli())/1000-float64(ago))
		r.History.Receive = append(r.History.Receive, int64(float64(r.ReceiveRate)*wave))
		r.History.Transmit = append(r.History.Transmit, int64(float64(r.TransmitRate)/wave))
	}
	return r
}

package top

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/gdamore/tcell/v3"

	"promflow/telemetry/golden"
	"promflow/telemetry/talkers"
)

// noon is when the reports of tests are from.
var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

func traffic(in, out, totalIn, totalOut int64) talkers.Traffic {
	return talkers.Traffic{ReceiveRate: in, TransmitRate: out, ReceiveTotal: totalIn, TransmitTotal: totalOut}
}

// office is a report of a few addresses.
func office(names bool) *talkers.Report {
	r := &talkers.Report{
		Time: noon, WindowSeconds: 4, IntervalSeconds: 2, Traffic: traffic(117_625_000, 1_540_000, 12_340_000_000, 987_000_000),
		Addresses: 6, AddressesLimit: 65536, Matching: 6, Names: names,
		Interfaces: []talkers.Interface{{Name: "eth0", Backend: "ebpf", Up: true}, {Name: "ppp0", Backend: "ebpf", Up: true}},
	}
	for i := range 40 {
		at := float64(noon.Unix() - int64(78-2*i))
		if i > 10 && i < 15 {
			continue // nobody asked
		}
		r.History.Time = append(r.History.Time, at)
		r.History.Receive = append(r.History.Receive, int64(i)*3_000_000)
		r.History.Transmit = append(r.History.Transmit, int64(i%5)*300_000)
	}
	add := func(ip, name string, t talkers.Traffic, part float64, history ...int64) {
		k := talkers.Talker{IP: ip, Traffic: t, Share: part, History: history}
		if names {
			k.Hostname = name
		}
		r.Talkers = append(r.Talkers, k)
	}
	add("192.168.1.133", "nas.lan", traffic(117_000_000, 40_000, 12_000_000_000, 400_000_000), 0.982, 0, 1, 2, 4, 8, 8, 4)
	add("192.168.1.20", "\u202eevil\x1b[31m\u0000name.lan", traffic(500_000, 1_250_000, 300_000_000, 500_000_000), 0.0147, 8, 8, 8)
	add("2001:db8:1234:5678:21a:2bff:fe3c:4d5e", "", traffic(125_000, 250_000, 40_000_000, 87_000_000), 0.003, 1)
	add("192.168.1.7", "büro-drucker.mit-einem-langen-namen.example.org", traffic(125, 0, 99_950, 0), 0, 0, 0, 1)
	add("192.168.1.9", "会議室の大きな画面.example.jp", traffic(0, 0, 999, 12), 0)
	add("other", "", traffic(0, 0, 1, 0), 0)
	return r
}

// household is a report by device.
func household() *talkers.Report {
	r := office(true)
	r.Matching, r.Talkers = 5, nil
	add := func(name, mac string, t talkers.Traffic, part float64, ips ...string) {
		id := mac
		if id == "" {
			id = ips[0]
		}
		r.Talkers = append(r.Talkers, talkers.Talker{ID: id, IP: ips[0], IPs: ips, Hostname: name, MAC: mac, Traffic: t, Share: part, History: []int64{1, 2}})
	}
	many := make([]string, talkers.MaxIPs)
	many[0] = "192.168.1.254"
	add("Laptop", "02:00:00:00:00:01", traffic(117_000_000, 40_000, 12_000_000_000, 400_000_000), 0.982, "192.168.1.133", "fd00::1", "fd00::2")
	add("", "02:00:00:00:00:02", traffic(500_000, 1_250_000, 300_000_000, 500_000_000), 0.0147, "2001:db8:1234:5678:21a:2bff:fe3c:4d5e", "192.168.1.7")
	add("büro-drucker.mit-einem-langen-namen.example.org", "", traffic(125_000, 250_000, 40_000_000, 87_000_000), 0.003, "192.168.1.9")
	add("", "02:00:00:00:00:03", traffic(125, 0, 99_950, 0), 0, many...)
	add("", "", traffic(0, 0, 1, 0), 0, "other")
	return r
}

func press(t *testing.T, m *Model, keys ...string) {
	t.Helper()
	names := map[string]bool{}
	for _, name := range tcell.KeyNames {
		names[name] = true
	}
	for _, k := range keys {
		key := Key{Text: k}
		if names[k] {
			key = Key{Name: k}
		}
		if m.Press(key) {
			t.Fatalf("%q ends it", k)
		}
	}
}

// shown makes a model that has a report.
func shown(o Options, r *talkers.Report, columns, lines int) *Model {
	m := NewModel(o)
	m.Tick(noon.Add(time.Second))
	m.Resize(columns, lines)
	if r != nil {
		m.Answer(m.Query(), r)
	}
	return m
}

// drawn writes a screen with its edges, and how each line looks.
func drawn(m *Model, columns int) string {
	marks := map[tcell.Style]rune{tcell.StyleDefault: ' ', bold: 'B', reverse: 'R', alarm: '!'}
	var b strings.Builder
	for _, line := range m.View() {
		fmt.Fprintf(&b, "%c|%s|\n", marks[line.Style], pad(line.Text, columns, false))
	}
	return b.String()
}

func TestScreens(t *testing.T) {
	remote := Options{Watched: "http://router:9088"}
	ill := office(false)
	ill.Interfaces[0].Up = false
	ill.Interfaces[1].Dropped, ill.Interfaces[1].DroppedRate = 77, 12.5
	ill.Addresses = ill.AddressesLimit
	young := office(false)
	young.WindowSeconds = 0
	none := office(false)
	none.Talkers, none.Matching = nil, 0
	v4 := office(true)
	v4.Talkers = append(v4.Talkers[:2:2], v4.Talkers[3:]...)
	v4.Matching = 5
	noNames := household()
	noNames.Names = false
	byDevice := Options{Watched: "http://router:9088", Query: talkers.Query{By: "device"}}
	v4Devices := household()
	v4Devices.Talkers = append(v4Devices.Talkers[:1:1], v4Devices.Talkers[2:]...)
	v4Devices.Matching = 4
	lost := errors.New("http://router:9088: connection refused")
	for name, c := range map[string]struct {
		o              Options
		report         *talkers.Report
		columns, lines int
		change         func(*testing.T, *Model)
	}{
		"80x24":                  {remote, office(false), 80, 24, nil},
		"80x24-names":            {remote, v4, 80, 24, nil},
		"80x24-names-and-ipv6":   {remote, office(true), 80, 24, nil},
		"120x40-names":           {remote, office(true), 120, 40, nil},
		"160x20-names":           {remote, office(true), 160, 20, nil},
		"40x12":                  {remote, office(true), 40, 12, nil},
		"40x12-by-out":           {remote, office(true), 40, 12, func(t *testing.T, m *Model) { press(t, m, "3"); m.Answer(m.Query(), office(true)) }},
		"20x5":                   {remote, office(true), 20, 5, nil},
		"9x3":                    {remote, office(true), 9, 3, nil},
		"80x1":                   {remote, office(false), 80, 1, nil},
		"80x24-ascii":            {Options{Watched: "http://router:9088", ASCII: true}, office(true), 80, 24, nil},
		"110x24-bytes":           {Options{Bytes: true}, office(false), 110, 24, nil},
		"80x24-devices":          {byDevice, household(), 80, 24, nil},
		"80x24-devices-of-ipv4":  {byDevice, v4Devices, 80, 24, nil},
		"160x20-devices":         {byDevice, household(), 160, 20, nil},
		"60x10-devices":          {byDevice, household(), 60, 10, nil},
		"40x12-devices":          {byDevice, household(), 40, 12, nil},
		"80x12-devices-ascii":    {Options{ASCII: true, Query: byDevice.Query}, household(), 80, 12, nil},
		"80x16-devices-no-names": {byDevice, noNames, 80, 16, nil},
		"80x24-ill":              {remote, ill, 80, 24, nil},
		"80x24-unreachable":      {remote, office(false), 80, 24, func(t *testing.T, m *Model) { m.Fail(lost); m.Tick(noon.Add(time.Hour)) }},
		"80x24-never-reached":    {remote, nil, 80, 24, func(t *testing.T, m *Model) { m.Fail(lost) }},
		"80x24-first-reading":    {remote, young, 80, 24, nil},
		"80x24-nothing":          {Options{}, none, 80, 24, nil},
		"80x24-help":             {remote, office(false), 80, 24, func(t *testing.T, m *Model) { press(t, m, "?") }},
		"80x24-paused-filtering": {remote, office(false), 80, 24, func(t *testing.T, m *Model) { press(t, m, "p", "/", "1", "9"); m.Answer(m.Query(), office(false)) }},
		"80x24-warned":           {Options{}, office(false), 80, 24, func(t *testing.T, m *Model) { m.Warn("first"); m.Warn("second"); m.Warn("third\n\x1b[1mline") }},
	} {
		t.Run(name, func(t *testing.T) {
			m := shown(c.o, c.report, c.columns, c.lines)
			if c.change != nil {
				c.change(t, m)
			}
			got := drawn(m, c.columns)
			if n := strings.Count(got, "\n"); n != c.lines {
				t.Errorf("%d lines, want %d", n, c.lines)
			}
			golden.Compare(t, "screen-"+name+".txt", got)
		})
	}
}

func TestText(t *testing.T) {
	defer func(local *time.Location) { time.Local = local }(time.Local)
	time.Local = time.UTC
	for name, o := range map[string]Options{
		"text":       {Watched: "http://router:9088"},
		"text-ascii": {ASCII: true, Bytes: true, Query: talkers.Query{Sort: "hostname", Reverse: true}},
	} {
		golden.Compare(t, name+".txt", Text(o, office(true)))
	}
	golden.Compare(t, "text-devices.txt", Text(Options{Query: talkers.Query{By: "device", Sort: "hostname"}}, household()))
}

func TestKeysChangeTheQuestion(t *testing.T) {
	for name, c := range map[string]struct {
		keys []string
		want talkers.Query
	}{
		"none":                      {nil, talkers.Query{Sort: "rate"}},
		"a number":                  {[]string{"5"}, talkers.Query{Sort: "receive_total"}},
		"one for names":             {[]string{"8"}, talkers.Query{Sort: "hostname"}},
		"the next order":            {[]string{"s", "s"}, talkers.Query{Sort: "transmit_rate"}},
		"the one before the first":  {[]string{"S"}, talkers.Query{Sort: "hostname"}},
		"around":                    {[]string{"S", "s"}, talkers.Query{Sort: "rate"}},
		"reverse":                   {[]string{"r"}, talkers.Query{Sort: "rate", Reverse: true}},
		"reverse and back":          {[]string{"r", "r"}, talkers.Query{Sort: "rate"}},
		"devices":                   {[]string{"d"}, talkers.Query{By: "device", Sort: "rate"}},
		"devices and back":          {[]string{"d", "d"}, talkers.Query{Sort: "rate"}},
		"devices in another order":  {[]string{"r", "/", "a", "Enter", "d", "5"}, talkers.Query{By: "device", Sort: "receive_total", Filter: "a"}},
		"another order begins anew": {[]string{"r", "7"}, talkers.Query{Sort: "ip"}},
		"a filter as it is written": {[]string{"/", "q", "1"}, talkers.Query{Sort: "rate", Filter: "q1"}},
		"that is kept":              {[]string{"/", "a", "b", "Enter", "r"}, talkers.Query{Sort: "rate", Reverse: true, Filter: "ab"}},
		"that is corrected":         {[]string{"/", "a", "ü", "Backspace", "c", "Enter"}, talkers.Query{Sort: "rate", Filter: "ac"}},
		"that is cleared":           {[]string{"/", "a", "Esc", "2"}, talkers.Query{Sort: "receive_rate"}},
		"that is cleared later":     {[]string{"/", "a", "Enter", "Esc"}, talkers.Query{Sort: "rate"}},
		"that is begun again":       {[]string{"/", "a", "Ctrl-U", "b"}, talkers.Query{Sort: "rate", Filter: "b"}},
		"nothing to take off":       {[]string{"/", "Backspace", "Enter"}, talkers.Query{Sort: "rate"}},
		"what could be no filter":   {[]string{"/", "\x1b", "\xff", "a"}, talkers.Query{Sort: "rate", Filter: "a"}},
		"one that is too long":      {[]string{"/", strings.Repeat("a", 250), "bcde", "bcd"}, talkers.Query{Sort: "rate", Filter: strings.Repeat("a", 250) + "bcd"}},
	} {
		t.Run(name, func(t *testing.T) {
			m := shown(Options{}, office(true), 80, 24)
			press(t, m, c.keys...)
			got := m.Query()
			if _, err := talkers.ParseQuery(got.Values()); err != nil {
				t.Error(err)
			}
			got.Limit, got.Offset = 0, 0
			c.want.By = cmp.Or(c.want.By, "ip")
			if got != c.want {
				t.Errorf("asks %+v, want %+v", got, c.want)
			}
		})
	}
}

func TestOrderByNamesNeedsNames(t *testing.T) {
	m := shown(Options{}, office(false), 80, 24)
	press(t, m, "8")
	if got := m.Query().Sort; got != "rate" {
		t.Errorf("sorts by %s", got)
	}
	press(t, m, "S")
	if got := m.Query().Sort; got != "ip" {
		t.Errorf("sorts by %s", got)
	}
}

func TestDevicesNeedNames(t *testing.T) {
	m := shown(Options{}, office(false), 80, 24)
	press(t, m, "d")
	if got := m.Query().By; got != "ip" {
		t.Errorf("asks by %s", got)
	}
	m = shown(Options{Query: talkers.Query{By: "device"}}, office(false), 80, 24)
	press(t, m, "d")
	if got := m.Query().By; got != "ip" {
		t.Errorf("asks by %s, and there are no devices", got)
	}
}

// Until the devices come, and if they do not, what is on the screen are addresses.
func TestAddressesStayUntilDevicesCome(t *testing.T) {
	m := shown(Options{}, office(true), 80, 24)
	before, old := drawn(m, 80), m.Query()
	press(t, m, "d")
	m.Answer(old, household())
	if got := drawn(m, 80); got != before {
		t.Errorf("got %s, want %s", got, before)
	}
	m.Fail(errors.New("it is of an old version"))
	if got := drawn(m, 80); !strings.Contains(got, "1-6 of 6  by rate") {
		t.Error(got)
	}
	m.Answer(m.Query(), household())
	if got := drawn(m, 80); !strings.Contains(got, "1-5 of 5 devices  by rate") || !strings.Contains(got, "192.168.1.133 +2") {
		t.Error(got)
	}
}

func TestKeysThatEndIt(t *testing.T) {
	for name, c := range map[string]struct {
		before []string
		key    Key
		want   bool
	}{
		"q":                   {nil, Key{Text: "q"}, true},
		"Ctrl-C":              {nil, Key{Name: "Ctrl-C"}, true},
		"q in a filter":       {[]string{"/"}, Key{Text: "q"}, false},
		"Ctrl-C in a filter":  {[]string{"/"}, Key{Name: "Ctrl-C"}, true},
		"one that is unknown": {nil, Key{}, false},
		"Escape":              {nil, Key{Name: "Esc"}, false},
	} {
		m := shown(Options{}, office(true), 80, 24)
		press(t, m, c.before...)
		if got := m.Press(c.key); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// many is a report of so many addresses, as promflow answers it.
func many(n int, q talkers.Query) *talkers.Report {
	r := office(false)
	r.Talkers, r.Matching = nil, n
	for i := q.Offset; i < min(q.Offset+q.Limit, n); i++ {
		r.Talkers = append(r.Talkers, talkers.Talker{IP: fmt.Sprintf("10.0.%d.%d", i/256, i%256)})
	}
	return r
}

// seen gives the addresses on the screen.
func seen(m *Model) (ips []string) {
	for _, line := range m.View() {
		if strings.HasPrefix(line.Text, "10.0.") {
			ips = append(ips, strings.Fields(line.Text)[0])
		}
	}
	return ips
}

func TestScrolling(t *testing.T) {
	const lines = 24
	m := NewModel(Options{})
	m.Resize(80, lines)
	answer := func(n int) { m.Answer(m.Query(), many(n, m.Query())) }
	answer(1000)
	page := len(seen(m))
	if page < lines-7 {
		t.Fatalf("a page has %d rows", page)
	}
	for _, c := range []struct {
		key   string
		first int
	}{
		{"Up", 0}, {"Down", 1}, {"j", 2}, {"k", 1}, {"PgDn", page + 1}, {"PgUp", 1}, {"End", 1000 - page}, {"Down", 1000 - page}, {"PgUp", 1000 - 2*page},
		{"g", 0}, {"G", 1000 - page}, {"Home", 0},
	} {
		press(t, m, c.key)
		answer(1000)
		got := seen(m)
		if want := fmt.Sprintf("10.0.%d.%d", c.first/256, c.first%256); len(got) != page || got[0] != want {
			t.Errorf("%s: %d rows from %s, want %d from %s", c.key, len(got), got[0], page, want)
		}
	}
	press(t, m, "PgDn") // what is on the next page has been asked before it is seen
	if got := seen(m); len(got) != page || got[0] != fmt.Sprintf("10.0.0.%d", page) {
		t.Errorf("the next page has %d rows", len(got))
	}
	answer(3)
	if got := seen(m); len(got) != 3 || got[0] != "10.0.0.0" {
		t.Errorf("of three addresses %v is seen", got)
	}
}

func TestPauseKeepsTheReport(t *testing.T) {
	m := shown(Options{}, many(3, talkers.Query{Limit: 50}), 80, 24)
	press(t, m, "p")
	m.Answer(m.Query(), many(2, m.Query()))
	if n := len(seen(m)); n != 3 {
		t.Errorf("%d rows while it pauses, want the 3 of before", n)
	}
	press(t, m, "r") // another question
	m.Answer(m.Query(), many(1, m.Query()))
	if n := len(seen(m)); n != 1 {
		t.Errorf("%d rows in another order, want 1", n)
	}
	press(t, m, " ")
	m.Answer(m.Query(), many(2, m.Query()))
	if n := len(seen(m)); n != 2 {
		t.Errorf("%d rows afterwards, want 2", n)
	}
}

func TestAnswersToOldQuestionsAreNotShown(t *testing.T) {
	m := shown(Options{}, many(3, talkers.Query{Limit: 50}), 80, 24)
	old := m.Query()
	press(t, m, "7")
	m.Answer(old, many(2, old))
	if n := len(seen(m)); n != 3 {
		t.Errorf("%d rows, want the 3 of before", n)
	}
}

func TestFailureIsToldAndForgotten(t *testing.T) {
	m := shown(Options{Watched: "http://router:9088"}, office(false), 80, 24)
	m.Fail(errors.New("refused"))
	m.Tick(noon.Add(time.Minute))
	m.Fail(errors.New("no route"))
	if got := drawn(m, 80); !strings.Contains(got, "! no answer since 12:00:01: no route") || !strings.Contains(got, "192.168.1.133") {
		t.Error(got)
	}
	m.Answer(m.Query(), office(false))
	if got := drawn(m, 80); strings.Contains(got, "no answer") {
		t.Error(got)
	}
}

func TestWarningsGoAway(t *testing.T) {
	m := shown(Options{}, office(false), 80, 24)
	m.Warn("the table is nearly full")
	if got := drawn(m, 80); !strings.Contains(got, "! the table is nearly full") {
		t.Error(got)
	}
	m.Tick(m.now.Add(warningShown))
	if got := drawn(m, 80); strings.Contains(got, "nearly full") {
		t.Error(got)
	}
}

func TestCursorIsWhereTheFilterIsWritten(t *testing.T) {
	m := shown(Options{}, office(false), 20, 10)
	if _, _, visible := m.Cursor(); visible {
		t.Error("there is a cursor")
	}
	press(t, m, "/", "a", "会")
	if x, y, visible := m.Cursor(); x != len("filter: a")+2 || y != 9 || !visible {
		t.Errorf("the cursor is at %d, %d, %v", x, y, visible)
	}
	press(t, m, strings.Repeat("b", 30))
	if x, y, _ := m.Cursor(); x != 19 || y != 9 {
		t.Errorf("the cursor is at %d, %d", x, y)
	}
}

func TestNumbers(t *testing.T) {
	for v, want := range map[float64]string{
		-1: "0 ", 0: "0 ", 1: "1 ", 999: "999 ", 999.4: "999 ", 999.5: "1.00 k", 1000: "1.00 k", 1204: "1.20 k", 9994: "9.99 k", 9995: "10.0 k",
		99_949: "99.9 k", 99_950: "100 k", 999_499: "999 k", 999_500: "1.00 M", 12.3e9: "12.3 G", 9.2e18: "9.20 E", 7.4e19: "74.0 E", 1e30: "1000000000000 E",
	} {
		if got := si(v); got != want {
			t.Errorf("%v is %q, want %q", v, got, want)
		}
	}
	for got, want := range map[string]string{
		rate(117_625_000, false): "941 Mbit/s", rate(1200, true): "1.20 kB/s", rate(0, false): "0 bit/s", rate(-5, true): "0 B/s",
		size(12_340_000_000): "12.3 GB", size(999): "999 B", share(0.5): "50.0 %", share(1): "100.0 %", share(-1): "-", share(7): "-",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestSparks(t *testing.T) {
	for _, c := range []struct {
		values []int64
		width  int
		ascii  bool
		want   string
	}{
		{nil, 3, false, "   "},
		{[]int64{0, 1, 2, 3, 4, 5, 6, 7, 8}, 9, false, " ▂▃▄▅▆▇██"},
		{[]int64{0, 1, 2, 3, 4, 5, 6, 7, 8}, 10, true, "  :-=+*#@@"},
		{[]int64{900, 1, 1}, 2, false, "██"},
		{[]int64{1 << 62, 1, -1}, 3, false, "█▁ "},
		{[]int64{1}, 0, false, ""},
		{[]int64{1}, -1, false, ""},
	} {
		if got := spark(c.values, c.width, c.ascii); got != c.want {
			t.Errorf("%v: %q, want %q", c.values, got, c.want)
		}
	}
}

func TestSlotsHaveTheTimesWithoutReadings(t *testing.T) {
	for _, c := range []struct {
		times  []float64
		values []int64
		most   int
		want   []int64
	}{
		{nil, nil, 5, nil},
		{[]float64{10, 12, 14}, []int64{1, 2, 3}, 5, []int64{1, 2, 3}},
		{[]float64{10.1, 11.9, 20}, []int64{1, 2, 3}, 9, []int64{1, 2, 0, 0, 0, 3}},
		{[]float64{10, 12, 1e12}, []int64{1, 2, 3}, 9, []int64{3}},
		{[]float64{1e308, -1e308, 4}, []int64{1, 2, 3}, 9, []int64{3}},
		{[]float64{10, 12, 14}, []int64{1, 2}, 1, []int64{2}},
	} {
		if got := slots(c.times, c.values, 2, c.most); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%v: %v, want %v", c.times, got, c.want)
		}
	}
}

func TestHostileNames(t *testing.T) {
	for name, c := range map[string]struct{ text, want, ascii string }{
		"plain":              {"nas.lan", "nas.lan", "nas.lan"},
		"an escape":          {"a\x1b[31mb\x1b]0;title\x07c", "a[31mb]0;titlec", "a[31mb]0;titlec"},
		"one of 8 bits":      {"a\u009b31mb", "a31mb", "a31mb"},
		"lines":              {"a\nb\r\nc\u2028d", "a b  c d", "a b  c d"},
		"turned around":      {"\u202eabc\u2066d\u200fe\u061cf", "abcdef", "abcdef"},
		"without width":      {"a\u200bb\ufeffc\u00add\u2060e\U000e0041f", "abcdef", "abcdef"},
		"invisible letters":  {"a\u3164\u115f\uffa0b", "ab", "ab"},
		"not UTF-8":          {"a\xffb", "a\ufffdb", "a?b"},
		"a tower of marks":   {"e" + strings.Repeat("\u0301", 100) + "f", "e\u0301\u0301f", "?f"},
		"marks on nothing":   {"\u0301a", "a", "a"},
		"marks on a space":   {"a \u0301b", "a b", "a b"},
		"accents":            {"büro", "büro", "b?ro"},
		"wide":               {"会議", "会議", "??"},
		"joined pictures":    {"👩\u200d👩", "👩👩", "??"},
		"chosen forms":       {"☁\ufe0f", "☁", "?"},
		"flags and half one": {"🇩🇪a🇩", "?a?", "??a?"},
		"a tone of skin":     {"👋🏽a", "?a", "??a"},
		"conjuncts, vowels":  {"क्षका", "??", "???"},
		"letters of no sort": {"a\ue000b", "ab", "ab"},
	} {
		if got := clean(c.text, false); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
		if got := clean(c.text, true); name != "a tower of marks" && got != c.ascii {
			t.Errorf("%s in ASCII: %q, want %q", name, got, c.ascii)
		}
	}
}

func TestCut(t *testing.T) {
	for _, c := range []struct {
		text        string
		most        int
		end, middle string
	}{
		{"abc", 3, "abc", "abc"},
		{"abcd", 3, "ab…", "a…d"},
		{"abcdefgh", 6, "abcde…", "abc…gh"},
		{"会議室", 4, "会…", "会…"},
		{"会議室", 5, "会議…", "会議…"},
		{"abc", 1, "…", "…"},
		{"abc", 0, "", ""},
		{"abc", -1, "", ""},
	} {
		if got := cut(c.text, c.most, false); got != c.end {
			t.Errorf("%s to %d: %q, want %q", c.text, c.most, got, c.end)
		}
		if got := cutMiddle(c.text, c.most, false); got != c.middle {
			t.Errorf("%s to %d: %q, want %q", c.text, c.most, got, c.middle)
		}
	}
}

func TestLocale(t *testing.T) {
	for env, want := range map[string]bool{
		"": true, "LANG=en_GB.UTF-8": false, "LANG=C": true, "LANG=C.utf8": false, "LC_ALL=C LANG=en_GB.UTF-8": true, "LC_CTYPE=de_DE.UTF-8@euro LANG=C": false,
		"LANG=de_DE.ISO-8859-1": true, "LC_ALL= LANG=C.UTF-8": false,
	} {
		for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
			t.Setenv(name, "")
		}
		for field := range strings.FieldsSeq(env) {
			name, value, _ := strings.Cut(field, "=")
			t.Setenv(name, value)
		}
		if got := ASCII(); got != want {
			t.Errorf("%q: %v", env, got)
		}
	}
}

// FuzzView draws any report on any terminal. What is drawn has its place and nothing but text, whoever gave the report.
func FuzzView(f *testing.F) {
	for _, r := range []*talkers.Report{office(true), office(false), household(), {}, many(100, talkers.Query{Limit: 100})} {
		body, err := json.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body, 80, 24, "?s", "eth0 is \x1b[31mdown", false)
		f.Add(body, 40, 7, "/19", "", true)
		f.Add(body, 80, 24, "d", "", true)
		f.Add(body, 13, 9, "d", "", false)
		f.Add(body, 3, 2, "uGj", "\u202e", false)
		f.Add(body, 0, 0, "/👩\u200d👩", "x", false)
	}
	f.Add([]byte(`{"time":"2026-03-04T12:00:00Z","window_seconds":1e308,"matching":9999999999,"talkers":[{"ip":"\u0e33\u0600","share":-1e308,"history":[-1,9223372036854775807]}]}`), 20, 9, "", "", false)
	f.Fuzz(func(t *testing.T, body []byte, columns, lines int, keys, failure string, ascii bool) {
		r := new(talkers.Report)
		if json.Unmarshal(body, r) != nil {
			return
		}
		columns, lines = max(columns%400, 0), max(lines%100, 0)
		o := Options{Watched: failure, ASCII: ascii}
		m := shown(o, r, columns, lines)
		for _, k := range keys {
			if m.Press(Key{Text: string(k)}) {
				return
			}
			m.Answer(m.Query(), r)
		}
		if failure != "" {
			m.Fail(errors.New(failure))
			m.Warn(failure)
		}
		view := m.View()
		if len(view) > lines {
			t.Errorf("%d lines of %d", len(view), lines)
		}
		for _, line := range view {
			if n := width(line.Text); n > columns {
				t.Errorf("%q has %d columns of %d", line.Text, n, columns)
			}
			mustBeText(t, line.Text, ascii)
		}
		if x, y, visible := m.Cursor(); visible && (x < 0 || x >= columns || y < 0 || y >= lines) {
			t.Errorf("the cursor is at %d, %d of %d, %d", x, y, columns, lines)
		}
		for line := range strings.Lines(Text(o, r)) {
			mustBeText(t, strings.TrimSuffix(line, "\n"), ascii)
		}
	})
}

func mustBeText(t *testing.T, line string, ascii bool) {
	t.Helper()
	for _, r := range line {
		if !unicode.IsGraphic(r) || unicode.Is(unicode.Bidi_Control, r) || ascii && r > unicode.MaxASCII {
			t.Errorf("%q has %U", line, r)
		}
	}
}

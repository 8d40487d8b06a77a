package check

import (
	"bytes"
	"log/slog"
	"promflow/telemetry/golden"
	"slices"
	"strings"
	"testing"
)

// report has all that a report can have.
func report() *Report {
	r := &Report{Duration: 5, Backend: "afpacket"}
	o := saw(9_900, 9_900_000, 100, Counters{RxPackets: 10_000, RxBytes: 10_140_000})
	nothing := saw(0, 0, 0, Counters{})
	nothing.Name = "enp129s0f0np0v127"
	mirror, link := saw(5_000_000, 5_000_000_000, 0, Counters{RxPackets: 5_000_000, RxBytes: 5_070_000_000}), linkFinding(Link{Name: "eth1", Up: true, Carrier: true, MTU: 1500})
	mirror.mirrorDetail(&link, 0.98, r.Duration, r.Backend)
	r.add(
		Finding{Name: "backend", Status: Info, Summary: "afpacket", Details: []string{"capture backend cannot be used: --capture=ebpf: loading an eBPF program: operation not permitted (needs cap_bpf): run promflow as root (in a container with CAP_NET_RAW and CAP_BPF)"}},
		link, o.shareFinding(), o.dropsFinding(), nothing.shareFinding(),
		Finding{Name: "collector", Status: Error, Summary: "collector:4317 does not take a push", Details: []string{"context deadline exceeded"}},
	)
	r.Interfaces = append(r.Interfaces, o.Interface, nothing.Interface)
	return r
}

func TestReportAsText(t *testing.T) {
	var b bytes.Buffer
	if err := report().WriteText(&b); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(b.String()) {
		if len(line) > 101 {
			t.Errorf("a line has %d characters: %s", len(line)-1, line)
		}
	}
	golden.Compare(t, "report.txt", b.String())
}

func TestReportAsJSON(t *testing.T) {
	var b bytes.Buffer
	if err := report().WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	golden.Compare(t, "report.json", b.String())
}

func TestVerdict(t *testing.T) {
	nothing, something := Interface{Name: "a"}, Interface{Name: "b", Packets: 1}
	for _, c := range []struct {
		status     Status
		interfaces []Interface
		want       string
	}{
		{OK, nil, "Works."},
		{Info, []Interface{something}, "Works."},
		{Info, []Interface{nothing, something}, "Works."},
		{Info, []Interface{nothing}, "Works, but no packet was seen: is it the right interface?"},
		{Warning, []Interface{something}, "Works; see what is said of x."},
		{Warning, []Interface{nothing}, "Works, but no packet was seen: see what is said of x."},
		{Error, []Interface{nothing}, "Does not work: x."},
	} {
		r := Report{Interfaces: c.interfaces}
		r.add(Finding{Name: "x", Status: c.status}, Finding{Name: "y"})
		if got := r.verdict(); got != c.want || r.Status != c.status {
			t.Errorf("%v with %v: got %q, want %q", c.status, c.interfaces, got, c.want)
		}
	}
}

func TestLogKeepsWarnings(t *testing.T) {
	var l Log
	log := l.Logger().With("interface", "eth0")
	log.Info("capturing")
	log.Warn("it went", "reason", "gone")
	l.Logger().Error("no")
	if got, want := l.Take(), []string{"it went: interface eth0, gone", "no"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := l.Take(); got != nil {
		t.Errorf("then it has %q", got)
	}
	var _ slog.Handler = log.Handler()
}

package check

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"promflow/capture"
	"promflow/capture/flow"
	"promflow/capture/frame"
)

func TestExporterFinding(t *testing.T) {
	counted := [frame.Outcomes]int64{frame.Counted: 7, frame.Unmonitored: 3}
	for _, c := range []struct {
		name    string
		status  flow.Status
		want    Status
		details []string // what each has
	}{
		{"all is well", flow.Status{Records: counted, Clock: -wrongClock, HasClock: true}, OK, nil},
		{"malformed", flow.Status{Records: [frame.Outcomes]int64{frame.Malformed: 2}}, Warning, []string{"2 records or datagrams"}},
		{"other direction", flow.Status{OtherWay: 4}, Info, []string{"4 records do not count"}},
		{"lost", flow.Status{Status: capture.Status{Dropped: 5}}, Warning, []string{"5 are missing"}},
		{"no template", flow.Status{Status: capture.Status{Dropped: 5}, NoTemplate: 5}, Warning, []string{"5 sets of data"}},
		{"both", flow.Status{Status: capture.Status{Dropped: 5}, NoTemplate: 2}, Warning, []string{"2 sets of data", "3 are missing"}},
		{"a clock that is late", flow.Status{Clock: -time.Hour, HasClock: true}, Info, []string{"1h0m0s behind"}},
		{"a clock that is early", flow.Status{Clock: time.Hour, HasClock: true}, Info, []string{"1h0m0s ahead of"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.status.Sends = "NetFlow v9, 3 templates"
			f := exporterFinding(c.status)
			if f.Status != c.want || len(f.Details) != len(c.details) || !strings.HasPrefix(f.Summary, "NetFlow v9, 3 templates; ") {
				t.Fatalf("the finding is %+v, want %v", f, c.want)
			}
			for i, d := range c.details {
				if !strings.Contains(f.Details[i], d) {
					t.Errorf("detail %d is %q, want %q", i, f.Details[i], d)
				}
			}
		})
	}
}

func TestReceivingFinding(t *testing.T) {
	for _, c := range []struct {
		name      string
		status    flow.Status
		exporters int
		want      Status
		has       string
	}{
		{"nobody", flow.Status{}, 0, Warning, "nobody has sent anything to :2055"},
		{"one", flow.Status{}, 1, OK, "1 exporter sends to :2055"},
		{"two", flow.Status{}, 2, OK, "2 exporters send to :2055"},
		{"refused", flow.Status{Refused: 9, LastRefused: netip.MustParseAddr("192.0.2.1")}, 0, Warning, "9 datagrams were refused, the last one from 192.0.2.1"},
		{"dropped", flow.Status{Status: capture.Status{Dropped: 9}}, 1, Warning, "dropped 9 datagrams"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.status.Exporter = ":2055"
			f := receivingFinding(c.status, c.exporters)
			if text := strings.Join(slices.Concat([]string{f.Summary}, f.Details), "\n"); f.Status != c.want || !strings.Contains(text, c.has) {
				t.Errorf("the finding is %v %s, want %v %s", f.Status, text, c.want, c.has)
			}
		})
	}
}

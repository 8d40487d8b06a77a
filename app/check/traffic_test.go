package check

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"promflow/capture"
	"promflow/capture/frame"
	"promflow/capture/subnets"
)

func host(addr string, receive, transmit int64) capture.Host {
	h := capture.Host{Totals: capture.Totals{ReceivePackets: receive, TransmitPackets: transmit}}
	if addr != "" {
		h.Addr = netip.MustParseAddr(addr)
	}
	return h
}

func TestDirections(t *testing.T) {
	for _, c := range []struct {
		name   string
		hosts  []capture.Host
		status Status
		says   string
	}{
		{"both", []capture.Host{host("10.1.0.1", 50, 40)}, OK, "both directions"},
		{"none", nil, Info, "too little"},
		{"few", []capture.Host{host("10.1.0.1", 19, 0)}, Info, "too little"},
		{"receive only", []capture.Host{host("10.1.0.1", 20, 0), host("10.1.0.2", 20, 0)}, Warning, "receive and never transmit"},
		{"transmit only", []capture.Host{host("10.1.0.1", 0, 20)}, Warning, "transmit and never receive"},
		{"all monitored, on a mirror port of one direction", []capture.Host{host("10.1.0.1", 0, 20), host("8.8.8.8", 20, 0)}, Warning, "no address both"},
		{"broadcasts beside", []capture.Host{host("10.1.0.1", 50, 40), host("10.1.0.255", 90, 0)}, OK, "both directions"},
		{"one packet came back", []capture.Host{host("10.1.0.1", 5000, 1)}, Warning, "next to nothing of the other direction"},
		{"as many come back as are few", []capture.Host{host("10.1.0.1", 9, 1)}, OK, "both directions"},
		{"a download", []capture.Host{host("10.1.0.1", 5000, 50)}, OK, "both directions"},
		{"one answers of many", []capture.Host{host("10.1.0.1", 9000, 0), host("10.1.0.2", 10, 10)}, Warning, "next to nothing"},
		{"those without room", []capture.Host{host("10.1.0.1", 50, 0), host("", 50, 50)}, Warning, "no address both"},
	} {
		f := (&traffic{hosts: c.hosts}).directionsFinding()
		if f.Status != c.status || !strings.Contains(f.Summary, c.says) {
			t.Errorf("%s: got %v: %s", c.name, f.Status, f.Summary)
		}
	}
}

func TestSubnetsWithoutTraffic(t *testing.T) {
	many := []string{"10.1.0.0/24"}
	for i := range 14 {
		many = append(many, fmt.Sprintf("10.2.%d.0/24", i))
	}
	for _, c := range []struct {
		name, monitored string
		hosts           []capture.Host
		status          Status
		says, last      string
	}{
		{"the only one has", "10.1.0.0/24", []capture.Host{host("10.1.0.9", 1, 0)}, OK, "traffic was seen in 10.1.0.0/24", ""},
		{"each has", "10.1.0.0/24,fd00::/64", []capture.Host{host("10.1.0.9", 1, 0), host("fd00::1", 0, 1)}, OK, "each of 2", ""},
		{"one has none", "10.1.0.0/24,fd00::/64", []capture.Host{host("10.1.0.9", 1, 0)}, Info, "1 of 2", "fd00::/64"},
		{"none has", "10.1.0.0/24,fd00::/64", []capture.Host{host("", 1, 0)}, Info, "any", "fd00::/64"},
		{"many have none", strings.Join(many, ","), []capture.Host{host("10.1.0.9", 1, 0)}, Info, "14 of 15", "and 4 more"},
	} {
		monitored, err := subnets.Parse(c.monitored)
		if err != nil {
			t.Fatal(err)
		}
		f := (&traffic{monitored: monitored, hosts: c.hosts}).subnetsFinding()
		last := ""
		if len(f.Details) > 0 {
			last = f.Details[len(f.Details)-1]
		}
		if f.Status != c.status || !strings.Contains(f.Summary, c.says) || last != c.last || len(f.Details) > maxListed+1 {
			t.Errorf("%s: got %v: %s: %q", c.name, f.Status, f.Summary, f.Details)
		}
	}
}

func TestTrafficElsewhereNamesSubnets(t *testing.T) {
	onLink := []netip.Prefix{netip.MustParsePrefix("192.168.7.0/24"), netip.MustParsePrefix("fd00:7::/64")}
	const missing = "add fd00:7::/64, or auto"
	for _, c := range []struct {
		name                           string
		counted, unmonitored, excluded int64
		status                         Status
		summary, says                  string
	}{
		{"nothing", 0, 0, 0, Info, "no IP packets", ""},
		{"mostly monitored", 75, 25, 0, Warning, "75.00 %", missing},
		{"too few", 0, 19, 0, Warning, "0.00 %", missing},
		{"hardly monitored", 1, 99, 0, Warning, "1.00 %", "--monitor-subnets=0.0.0.0/0,::/0 counts all"},
		{"some excluded", 75, 0, 25, Warning, "25.00 % are excluded", missing},
		{"all excluded", 0, 0, 100, Warning, "100 % are excluded", "--exclude-subnets"},
		{"most excluded", 5, 0, 95, Warning, "5.00 %", "95 packets"},
		{"few, and all excluded", 0, 0, 19, Warning, "0.00 %", missing},
	} {
		tr := traffic{onLink: onLink, monitored: subnets.Of(netip.MustParsePrefix("192.168.0.0/16"))}
		tr.outcomes[frame.Counted].Packets, tr.outcomes[frame.Unmonitored].Packets = c.counted, c.unmonitored
		tr.outcomes[frame.Excluded].Packets = c.excluded
		f := tr.monitoredFinding()
		if f.Status != c.status || !strings.Contains(f.Summary, c.summary) || !strings.Contains(strings.Join(f.Details, "\n"), c.says) {
			t.Errorf("%s: got %v: %s: %q", c.name, f.Status, f.Summary, f.Details)
		}
	}
}

func TestPacketsThatAreNotIP(t *testing.T) {
	for _, c := range []struct {
		name        string
		counted, no int64
		status      Status
		says        string
	}{
		{"none", 200, 0, OK, "100 % of the IP packets are of monitored addresses; "},
		{"a few", 190, 10, OK, "monitored addresses; 10 of 200 packets (5.00 %) are not IP: 600 bytes"},
		{"half", 100, 100, OK, "100 of 200 packets (50.00 %)"},
		{"most", 40, 160, OK, "100 % of the IP packets are of monitored addresses; 160 of 200 packets (80.00 %) are not IP: 9600 bytes, which no address has"},
		{"all", 0, 160, Info, "no IP packets to judge by; 160 of 160 packets (100 %) are not IP"},
	} {
		var tr traffic
		tr.outcomes[frame.Counted].Packets = c.counted
		tr.outcomes[frame.NonIP] = capture.OutcomeSize{Packets: c.no, Bytes: 60 * c.no}
		f := tr.monitoredFinding()
		if text := f.Summary + "; " + strings.Join(f.Details, "; "); f.Status != c.status || !strings.Contains(text, c.says) {
			t.Errorf("%s: got %v: %s; want %v and %q", c.name, f.Status, text, c.status, c.says)
		}
	}
}

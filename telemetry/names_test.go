package telemetry_test

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"promflow/telemetry"
	"promflow/telemetry/telemetrytest"
)

// infos gives what the info metric of a source has, and fails the test where it is not 1.
func infos(t *testing.T, source *telemetry.Source) []string {
	t.Helper()
	points, _ := pointsBy(t, produce(t, source), "promflow_host_info")
	for labels, p := range points {
		if p.Value != 1 {
			t.Errorf("%s is %d", labels, p.Value)
		}
	}
	return slices.Sorted(maps.Keys(points))
}

func TestHostInfoFollowsNames(t *testing.T) {
	addr, v6 := netip.MustParseAddr("192.168.1.133"), netip.MustParseAddr("2001:db8::1")
	names := map[netip.Addr]telemetry.HostInfo{}
	reading := telemetry.Reading{
		Hosts: slices.Values([]telemetry.Host{{Addr: addr, ReceiveBytes: 1}, {Addr: v6, TransmitBytes: 1}}),
		Info:  func(of netip.Addr) telemetry.HostInfo { return names[of] },
	}
	source := telemetry.NewSource(func() telemetry.Reading { return reading }, false)
	for _, step := range []struct {
		name   string
		change func()
		want   []string // hostname, ip, mac
	}{
		{"nothing is known", func() {}, []string{",192.168.1.133,", ",2001:db8::1,"}},
		{"a MAC", func() { names[addr] = telemetry.HostInfo{MAC: "m"} }, []string{",192.168.1.133,m", ",2001:db8::1,"}},
		{"and a name", func() { names[addr] = telemetry.HostInfo{Hostname: "n", MAC: "m"} }, []string{",2001:db8::1,", "n,192.168.1.133,m"}},
		{"another name", func() { names[addr] = telemetry.HostInfo{Hostname: "o", MAC: "m"} }, []string{",2001:db8::1,", "o,192.168.1.133,m"}},
		{"the address is a new one", func() {
			reading.Hosts = slices.Values([]telemetry.Host{{Addr: v6, TransmitBytes: 1}, {Addr: addr, Entry: 1, ReceiveBytes: 1}})
		}, []string{",2001:db8::1,", "o,192.168.1.133,m"}},
		{"it expires", func() {
			reading.Hosts = slices.Values([]telemetry.Host{{Addr: v6, TransmitBytes: 1}, {Addr: addr, Entry: 1, ReceiveBytes: 1, Expired: true}})
		}, []string{",2001:db8::1,"}},
		{"it returns", func() {
			reading.Hosts = slices.Values([]telemetry.Host{{Addr: v6, TransmitBytes: 1}, {Addr: addr, Entry: 1, ReceiveBytes: 1}})
		}, []string{",2001:db8::1,", "o,192.168.1.133,m"}},
		{"nobody wants to know", func() { reading.Info = nil }, nil},
	} {
		step.change()
		if got := infos(t, source); !slices.Equal(got, step.want) {
			t.Errorf("%s: %q, want %q", step.name, got, step.want)
		}
	}
}

// TestHostInfoHasEachAddressOnce has addresses and prefixes with labels: a join by ip must find one partner for each series, and no
// second one.
func TestHostInfoHasEachAddressOnce(t *testing.T) {
	r := telemetrytest.Labelled()
	var asked []string
	r.Info = func(addr netip.Addr) telemetry.HostInfo {
		asked = append(asked, addr.String())
		return telemetry.HostInfo{Hostname: "name", MAC: "mac"}
	}
	source := telemetry.NewSource(func() telemetry.Reading { return r }, false)
	want := []string{",192.168.5.0/24,", ",fd00:1::/64,", ",other,", "name,192.168.1.133,mac"}
	if got := infos(t, source); !slices.Equal(got, want) || !slices.Equal(asked, []string{"192.168.1.133"}) {
		t.Errorf("%q, asked for %q; want %q", got, asked, want)
	}
	page := telemetrytest.Scrape(t, telemetrytest.Start(t, func() telemetry.Reading { return r }, false))
	if line := "\npromflow_host_info{hostname=\"name\",ip=\"192.168.1.133\",mac=\"mac\"} 1\n"; !strings.Contains(page, line) {
		t.Errorf("the page lacks %s", line)
	}
}

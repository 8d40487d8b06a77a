package check

import (
	"errors"
	"strings"
	"testing"
)

func TestInterfaceState(t *testing.T) {
	up := Link{Name: "eth0", Up: true, Carrier: true, MTU: 1500}
	with := func(change func(*Link)) Link { l := up; change(&l); return l }
	for _, c := range []struct {
		name        string
		before, now Link
		asked       bool
		status      Status
		says        string
	}{
		{"as usual", up, with(func(l *Link) { l.Promiscuity = 1 }), true, OK, "up, with carrier, MTU 1500, promiscuous; promiscuous mode was asked for by promflow"},
		{"not asked for", up, up, false, OK, "MTU 1500; not promiscuous: it"},
		{"asked for in vain", up, up, true, OK, "though promflow was told to ask"},
		{"by others, too", with(func(l *Link) { l.Promiscuity, l.Promiscuous, l.Master = 4, true, "br0" }), with(func(l *Link) { l.Promiscuity = 5 }), true, OK,
			"by promflow, the administrator (ip link set promisc on), its master br0, 2 other programs"},
		{"by another only", with(func(l *Link) { l.Promiscuity = 1 }), with(func(l *Link) { l.Promiscuity = 1 }), false, OK, "by another program"},
		{"down", up, with(func(l *Link) { l.Up, l.Carrier = false, false }), false, Warning, "down, MTU 1500"},
		{"no carrier", up, with(func(l *Link) { l.Carrier = false }), false, Warning, "up, no carrier"},
	} {
		f := interfaceFinding(c.before, c.now, c.asked)
		if text := f.Summary + "; " + strings.Join(f.Details, "; "); f.Status != c.status || !strings.Contains(text, c.says) {
			t.Errorf("%s: got %v: %s", c.name, f.Status, text)
		}
	}
}

func TestOffloads(t *testing.T) {
	for _, c := range []struct {
		name     string
		features map[string]bool
		err      error
		status   Status
		says     string
	}{
		{"unknown", nil, errors.New("operation not supported"), Info, "does not tell: operation not supported"},
		{"off", map[string]bool{"rx-gro": false}, nil, OK, "all off"},
		{"on", map[string]bool{"rx-gro": true, "tx-tcp-segmentation": true, "rx-lro": false}, nil, OK, "on: GRO, TSO; off: LRO; they need not be turned off"},
		{"LRO", map[string]bool{"rx-lro": true}, nil, Warning, "do not use it on a router"},
	} {
		f := offloadsFinding("eth0", c.features, c.err)
		if text := f.Summary + "; " + strings.Join(f.Details, "; "); f.Status != c.status || !strings.Contains(text, c.says) {
			t.Errorf("%s: got %v: %s", c.name, f.Status, text)
		}
	}
}

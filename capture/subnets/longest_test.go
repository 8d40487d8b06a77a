package subnets

import (
	"net/netip"
	"testing"
)

func TestLongest(t *testing.T) {
	var l Longest[string]
	if name, ok := l.Of(netip.MustParseAddr("10.0.0.1")); ok || name != "" {
		t.Errorf("the zero value has %q", name)
	}
	for prefix, name := range map[string]string{
		"10.0.0.0/8": "all", "10.1.0.0/16": "office", "10.1.2.3/32": "printer", "::/0": "the rest", "fd00::/8": "local", "0.0.0.0/0": "default",
	} {
		l.Add(netip.MustParsePrefix(prefix), name)
	}
	if l.Add(netip.MustParsePrefix("10.0.0.0/8"), "again") {
		t.Error("a prefix got a second value")
	}
	for addr, want := range map[string]string{
		"10.1.2.3": "printer", "10.1.2.4": "office", "10.2.0.1": "all", "192.0.2.1": "default", "fd00::1": "local", "2001:db8::1": "the rest",
	} {
		if name, ok := l.Of(netip.MustParseAddr(addr)); !ok || name != want {
			t.Errorf("%s has %q, want %q", addr, name, want)
		}
	}
	if _, ok := l.Of(netip.Addr{}); ok {
		t.Error("the invalid address has a value")
	}
}

package watch

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"

	"promflow/capture/nettest"
)

// TestFollowOnLink has addresses come and go on two interfaces, of which one is captured.
func TestFollowOnLink(t *testing.T) {
	ns := nettest.NewNamespace(t)
	ns.IP("link", "add", "on0", "type", "veth", "peer", "name", "off0")
	ns.Run("sysctl", "-qw", "net.ipv6.conf.on0.disable_ipv6=0", "net.ipv6.conf.on0.accept_dad=0", "net.ipv6.conf.off0.disable_ipv6=0")
	ns.IP("link", "set", "on0", "up")
	ns.IP("link", "set", "off0", "up")
	ns.IP("addr", "add", "10.1.2.3/24", "dev", "on0")
	ctx, cancel := context.WithCancel(t.Context())
	changes, ended := make(chan []netip.Prefix, 10), make(chan error)
	go func() {
		ended <- ns.Do(func() error {
			return FollowOnLink(ctx, Names{Exact: []string{"on0", "absent"}}, func(p []netip.Prefix) { changes <- p },
				func(err error) { t.Error(err) })
		})
	}()
	expect := func(why string, want ...string) {
		t.Helper()
		var prefixes []netip.Prefix
		for _, w := range want {
			prefixes = append(prefixes, netip.MustParsePrefix(w))
		}
		select {
		case got := <-changes:
			if !slices.Equal(got, prefixes) {
				t.Fatalf("%s: %v, want %v", why, got, prefixes)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: no change, want %v", why, prefixes)
		}
	}
	expect("at first", "10.1.2.0/24")
	ns.IP("addr", "add", "10.9.2.3/24", "dev", "off0")
	ns.IP("addr", "add", "2001:db8::1/64", "dev", "on0")
	expect("an IPv6 prefix comes", "10.1.2.0/24", "2001:db8::/64")
	ns.IP("addr", "add", "2001:db8::2/64", "dev", "on0")
	ns.IP("addr", "del", "2001:db8::1/64", "dev", "on0")
	ns.IP("addr", "del", "10.1.2.3/24", "dev", "on0")
	expect("an IPv4 prefix goes, an IPv6 prefix stays", "2001:db8::/64")
	ns.IP("route", "add", "2001:db8:1::/64", "dev", "on0", "proto", "ra")
	expect("a router announces a prefix without addresses", "2001:db8::/64", "2001:db8:1::/64")
	ns.IP("route", "add", "2001:db8:9::/64", "dev", "on0", "proto", "static")
	ns.IP("route", "add", "2001:db8:8::/64", "dev", "off0", "proto", "ra")
	ns.IP("addr", "add", "10.7.0.1", "peer", "10.7.0.2/32", "dev", "on0")
	expect("a point-to-point address", "10.7.0.1/32", "10.7.0.2/32", "2001:db8::/64", "2001:db8:1::/64")
	ns.IP("link", "set", "on0", "name", "on1")
	expect("the interface has another name")
	ns.IP("link", "set", "on1", "name", "on0")
	expect("the interface has its name again", "10.7.0.1/32", "10.7.0.2/32", "2001:db8::/64", "2001:db8:1::/64")
	ns.IP("link", "del", "on0")
	expect("the interface goes")
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

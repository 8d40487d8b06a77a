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
	ns.Run("sysctl", "-qw", "net.ipv6.conf.on0.disable_ipv6=0", "net.ipv6.conf.on0.accept_dad=0")
	ns.IP("link", "set", "on0", "up")
	ns.IP("link", "set", "off0", "up")
	ns.IP("addr", "add", "10.1.2.3/24", "dev", "on0")
	ctx, cancel := context.WithCancel(t.Context())
	changes, ended := make(chan []netip.Prefix, 10), make(chan error)
	go func() {
		ended <- ns.Do(func() error {
			return FollowOnLink(ctx, func() []string { return []string{"on0", "absent"} }, func(p []netip.Prefix) { changes <- p })
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
		case <-time.After(lookEvery / 2):
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
	ns.IP("link", "del", "on0")
	expect("the interface goes")
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

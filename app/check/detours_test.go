package check

import (
	"errors"
	"fmt"
	"slices"
	"syscall"
	"testing"

	"promflow/capture/detour"
	"promflow/capture/subnets"
)

func TestDetoursThatCannotBeLookedAt(t *testing.T) {
	n := &detour.Namespace{FlowtablesErr: fmt.Errorf("listing flowtables: %w", syscall.EPERM), IPsecErr: errors.New("no room")}
	flowtables, ipsec := flowtablesFindings(n, []string{"eth0", "eth1"}), ipsecFindings(n, []string{"eth0", "eth1"}, subnets.Set{}, subnets.Set{})
	if len(flowtables) != 1 || len(ipsec) != 1 {
		t.Fatalf("want one finding each, got %+v, %+v", flowtables, ipsec)
	}
	if f := flowtables[0]; f.Name != "flowtables" || f.Status != Info || f.Summary != "the kernel does not tell: listing flowtables: operation not permitted" ||
		!slices.Equal(f.Details, []string{"that takes cap_net_admin"}) {
		t.Errorf("got %+v", f)
	}
	if f := ipsec[0]; f.Name != "ipsec" || f.Status != Info || f.Summary != "the kernel does not tell: no room" || len(f.Details) > 0 {
		t.Errorf("got %+v", f)
	}
}

func TestConduitOfASwitch(t *testing.T) {
	f := switchFinding("eth0", detour.Conduit{Tags: "mtk", Ports: []string{"lan1", "lan2"}})
	if f.Name != "switch" || f.Interface != "eth0" || f.Status != Warning ||
		f.Summary != "a switch puts tags into its frames (mtk), which hide what is IP: it counts as non_ip" ||
		!slices.Equal(f.Details, []string{"the switch's ports have no tags: capture with --interface=lan1,lan2 instead"}) {
		t.Errorf("got %+v", f)
	}
	if f := switchFinding("eth0", detour.Conduit{Tags: "mtk"}); len(f.Details) > 0 {
		t.Errorf("without ports got %+v", f)
	}
}

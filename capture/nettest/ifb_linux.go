package nettest

import "strings"

// NewIFB makes an ifb device in a namespace, up, which all that arrives on another device passes before anything else sees it but a capture
// there, as traffic shapers have it. It skips the test if the kernel has no such devices.
func NewIFB(n *Namespace, name, from string) { newTarget(n, "ifb", name, from, "redirect") }

// NewMirror makes a dummy device, up, that has a copy of all that arrives on another device.
func NewMirror(n *Namespace, name, from string) { newTarget(n, "dummy", name, from, "mirror") }

func newTarget(n *Namespace, kind, name, from, action string) {
	n.t.Helper()
	Need(n.t, "tc")
	if out, err := n.Command("ip", "link", "add", name, "up", "type", kind).CombinedOutput(); err != nil {
		KernelLacks(n.t, kind+" devices: "+string(out))
	}
	n.Run("tc", "qdisc", "add", "dev", from, "handle", "ffff:", "ingress")
	const rule = " parent ffff: protocol all u32 match u32 0 0 action mirred egress "
	if out, err := n.Command(strings.Fields("tc filter add dev " + from + rule + action + " dev " + name)...).CombinedOutput(); err != nil {
		KernelLacks(n.t, "u32 and mirred of tc(8): "+string(out))
	}
}

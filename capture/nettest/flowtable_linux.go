package nettest

import (
	"fmt"
	"strings"
)

// NewFlowtable makes a flowtable in the namespace for some devices, and a rule that puts TCP and UDP connections into it. The family is
// inet, ip or ip6. It needs nft(8).
func NewFlowtable(n *Namespace, family, table, name string, devices ...string) {
	n.t.Helper()
	Need(n.t, "nft")
	list := ""
	if len(devices) > 0 {
		list = "devices = { " + strings.Join(devices, ", ") + " }"
	}
	cmd := n.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(fmt.Sprintf(`table %s %s {
		flowtable %s { hook ingress priority 0
			%s
		}
		chain forward_%[3]s { type filter hook forward priority 0
			meta l4proto { tcp, udp } flow add @%[3]s
		}
	}`, family, table, name, list))
	if out, err := cmd.CombinedOutput(); err != nil {
		KernelLacks(n.t, "nftables' flowtables: "+string(out))
	}
}

package live

import (
	"strings"

	"promflow/capture/detour"
)

// WarnOfDetours warns of captured interfaces that miss packets, see packets twice, or see what promflow cannot read. The kernel shows the reasons only with CAP_NET_ADMIN,
// which promflow has before it gives up root.
func (l *Live) WarnOfDetours() {
	if l.flows != nil {
		return
	}
	log, in := l.config.Log, l.config.Table.Subnets()
	found := detour.Look()
	for _, err := range []error{found.FlowtablesErr, found.IPsecErr} {
		if err != nil {
			log.Debug("whether interfaces miss packets, or see packets twice, is not known", "reason", err)
		}
	}
	for _, s := range l.Statuses() {
		if b, ok := found.Bypass(s.Interface); ok {
			text, attributes := "a flowtable forwards packets past an interface: capture its ports instead",
				[]any{"interface", s.Interface, "flowtable", strings.Join(b.Flowtables, ", ")}
			if b.Hardware {
				text = "a flowtable forwards packets in hardware, where no interface sees them: turn its offloading off"
			}
			if len(b.Ports) > 0 {
				attributes = append(attributes, "ports", strings.Join(b.Ports, ","))
			}
			log.Warn(text, attributes...)
		}
		if c, ok := found.Conduit(s.Interface); ok {
			log.Warn("a switch puts tags into the frames of an interface, which hide what is IP: capture the switch's ports instead",
				"interface", s.Interface, "tags", c.Tags, "ports", strings.Join(c.Ports, ","))
		}
		if d, ok := found.Decryption(s.Interface, in.Monitored, in.Excluded); ok {
			text := "what arrives by IPsec counts twice, encrypted and decrypted: exclude the subnets in the tunnels, or use an xfrm interface"
			if d.Early {
				text = "promflow may see incoming IPsec traffic only decrypted, and outgoing only encrypted: use an xfrm interface"
			}
			log.Warn(text, "interface", s.Interface, "subnets", d.List())
		}
	}
}

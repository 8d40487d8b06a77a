package check

import (
	"errors"
	"io/fs"
	"strings"

	"promflow/capture/detour"
	"promflow/capture/subnets"
)

// perInterface returns a finding for each interface for which find returns true, or if there is none, one with that summary. err says why
// the kernel does not tell.
func perInterface(name string, interfaces []string, err error, none string, find func(*Finding) (ok bool)) (all []Finding) {
	if err != nil {
		f := Finding{Name: name}
		f.set(Info, "the kernel does not tell: %v", err)
		if errors.Is(err, fs.ErrPermission) {
			f.detail("that takes cap_net_admin")
		}
		return []Finding{f}
	}
	for _, i := range interfaces {
		if f := (Finding{Name: name, Interface: i, Status: Warning}); find(&f) {
			all = append(all, f)
		}
	}
	if len(all) == 0 {
		all = append(all, Finding{Name: name, Summary: none})
	}
	return all
}

// flowtablesFindings look for flowtables that forward packets past interfaces.
func flowtablesFindings(n *detour.Namespace, interfaces []string) []Finding {
	const none = "none forwards packets past a captured interface"
	return perInterface("flowtables", interfaces, n.FlowtablesErr, none, func(f *Finding) bool {
		b, ok := n.Bypass(f.Interface)
		f.Summary = strings.Join(b.Flowtables, ", ") + " forwards packets past this interface"
		if b.Hardware {
			f.Summary = strings.Join(b.Flowtables, ", ") + " has the hardware forward packets"
			f.detail("no interface sees those: turn hardware offloading off")
		}
		if len(b.Ports) > 0 {
			f.detail("its ports see them: capture with --interface=%s instead", strings.Join(b.Ports, ","))
		}
		return ok
	})
}

// switchFindings look for interfaces whose frames have tags of a switch. Most machines have none, and then there is no finding.
func switchFindings(n *detour.Namespace, interfaces []string) (all []Finding) {
	for _, i := range interfaces {
		if c, ok := n.Conduit(i); ok {
			all = append(all, switchFinding(i, c))
		}
	}
	return all
}

func switchFinding(name string, c detour.Conduit) Finding {
	f := Finding{Name: "switch", Interface: name}
	f.set(Warning, "a switch puts tags into its frames (%s), which hide what is IP: it counts as non_ip", c.Tags)
	if len(c.Ports) > 0 {
		f.detail("the switch's ports have no tags: capture with --interface=%s instead", strings.Join(c.Ports, ","))
	}
	return f
}

// ipsecFindings look for interfaces that see packets decrypted by IPsec.
func ipsecFindings(n *detour.Namespace, interfaces []string, monitored, excluded subnets.Set) []Finding {
	return perInterface("ipsec", interfaces, n.IPsecErr, "no captured interface sees packets decrypted", func(f *Finding) bool {
		d, ok := n.Decryption(f.Interface, monitored, excluded)
		if d.Early {
			f.Summary = "what arrives may be seen decrypted only, what leaves is encrypted"
			f.detail("GRO decrypts with esp4_offload and esp6_offload, before promflow sees it")
			f.detail("with an xfrm interface for the tunnels, what is inside counts there, once")
			return ok
		}
		f.Summary = "what arrives counts twice, encrypted and decrypted; what leaves counts once, encrypted"
		if list := d.List(); list != "" {
			f.detail("with %s added to --exclude-subnets, encrypted packets alone count", list)
		}
		f.detail("with an xfrm interface for the tunnels, encrypted packets count here and what is inside there, once each")
		return ok
	})
}

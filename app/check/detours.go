package check

import (
	"errors"
	"io/fs"
	"strings"

	"promflow/capture/detour"
	"promflow/capture/subnets"
)

// notListed is about what cannot be looked at.
func notListed(name string, err error) Finding {
	f := Finding{Name: name, Status: Info, Summary: "the kernel does not tell: " + err.Error()}
	if errors.Is(err, fs.ErrPermission) {
		f.detail("that takes cap_net_admin")
	}
	return f
}

// flowtablesFindings are about packets that flowtables forward past interfaces.
func flowtablesFindings(n *detour.Namespace, names []string) (all []Finding) {
	if n.FlowtablesErr != nil {
		return []Finding{notListed("flowtables", n.FlowtablesErr)}
	}
	for _, name := range names {
		b, ok := n.Bypass(name)
		if !ok {
			continue
		}
		f := Finding{Name: "flowtables", Interface: name, Status: Warning}
		f.Summary = strings.Join(b.Flowtables, ", ") + " forwards packets past this interface"
		if b.Hardware {
			f.Summary = strings.Join(b.Flowtables, ", ") + " has the hardware forward packets"
			f.detail("no interface sees those: turn hardware offloading off")
		}
		if len(b.Ports) > 0 {
			f.detail("its ports see them: capture with --interface=%s instead", strings.Join(b.Ports, ","))
		}
		all = append(all, f)
	}
	if len(all) == 0 {
		all = append(all, Finding{Name: "flowtables", Summary: "none forwards packets past a captured interface"})
	}
	return all
}

// ipsecFindings are about packets that interfaces see decrypted.
func ipsecFindings(n *detour.Namespace, names []string, monitored, excluded subnets.Set) (all []Finding) {
	if n.IPsecErr != nil {
		return []Finding{notListed("ipsec", n.IPsecErr)}
	}
	for _, name := range names {
		d, ok := n.Decryption(name, monitored, excluded)
		if !ok {
			continue
		}
		f := Finding{Name: "ipsec", Interface: name, Status: Warning}
		if d.Early {
			f.Summary = "what arrives may be seen decrypted only, what leaves is encrypted"
			f.detail("GRO decrypts with esp4_offload and esp6_offload, before promflow sees it")
			f.detail("with an xfrm interface for the tunnels, what is inside counts there, once")
		} else {
			f.Summary = "what arrives counts twice, encrypted and decrypted; what leaves counts once, encrypted"
			if list := d.List(); list != "" {
				f.detail("with %s added to --exclude-subnets, encrypted packets alone count", list)
			}
			f.detail("with an xfrm interface for the tunnels, encrypted packets count here and what is inside there, once each")
		}
		all = append(all, f)
	}
	if len(all) == 0 {
		all = append(all, Finding{Name: "ipsec", Summary: "no captured interface sees packets decrypted"})
	}
	return all
}

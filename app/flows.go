package app

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"promflow/app/live"
	"promflow/capture/flow"
	"promflow/capture/subnets"
)

// localPrefixes are private (RFC 1918, RFC 4193), link-local (RFC 3927, RFC 4291) and loopback addresses.
const localPrefixes = "10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,fc00::/7,169.254.0.0/16,fe80::/10,127.0.0.0/8,::1"

// flows holds the settings of collecting flows.
type flows struct {
	addresses map[string]*string // by the name of the protocol
	exporters subnets.Set
	direction string
	sampling  int // 0: as exporters say
}

// flowDirections has the values of --flow-direction.
var flowDirections = map[string]flow.Direction{"ingress": flow.Ingress, "egress": flow.Egress, "both": flow.Unknown}

// flowProtocols returns the values of --capture that collect flows.
func flowProtocols() (names []string) {
	for _, p := range live.Protocols() {
		names = append(names, p.Name)
	}
	return names
}

// settings returns the settings of flows.
func (f *flows) settings() (all settings) {
	f.exporters, _ = parsePrefixes(localPrefixes)
	f.addresses = map[string]*string{}
	for _, p := range live.Protocols() {
		address := new(string)
		f.addresses[p.Name] = address
		all = append(all, &setting{category: "Flows", name: addressFlag(p.Name), holder: "HOST:PORT", byDefault: ":" + strconv.Itoa(int(p.Port)), parse: into(address, parseUDPAddress),
			usage: "where --capture=" + p.Name + " receives what routers and switches report as " + p.Title})
	}
	return append(all, settings{
		{category: "Flows", name: "flow-exporters", holder: "LIST", otherwise: "private, link-local and loopback addresses", parse: into(&f.exporters, parsePrefixes),
			usage: "the routers and switches that may report, as addresses and prefixes; what others send is counted as refused"},
		{category: "Flows", name: "flow-direction", holder: "WHICH", byDefault: "ingress", text: &f.direction, choices: []string{"ingress", "egress", "both"},
			usage: "which reports count, of those that say whether the packets came in or went out: a router that counts them at\nboth places reports them twice"},
		{category: "Flows", name: "sampling-rate", holder: "N", otherwise: "as reports say", parse: number(&f.sampling, 1, math.MaxInt32),
			usage: "multiply reports by N, of routers that count one packet of N only, whatever they say themselves"},
	}...)
}

// addressFlag is the flag of a protocol's address.
func addressFlag(protocol string) string { return protocol + "-address" }

// parseUDPAddress checks an address to receive at.
func parseUDPAddress(s string) (string, error) {
	host, port, err := net.SplitHostPort(s)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if _, wrong := netip.ParseAddr(host); err != nil || host != "" && wrong != nil {
		return "", errors.New("expected an IP address and a port, such as 192.168.1.2:2055 or [fd00::1]:2055, or :2055 for all addresses")
	}
	return s, nil
}

// parsePrefixes parses a list of prefixes and addresses.
func parsePrefixes(s string) (set subnets.Set, err error) {
	var all []netip.Prefix
	for _, text := range elements(s) {
		p, err := netip.ParsePrefix(text)
		if addr, one := netip.ParseAddr(text); one == nil {
			p, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		if err != nil || strings.Contains(text, "%") || p.Addr().Is4In6() {
			return set, fmt.Errorf("%q: expected prefixes and addresses, such as 10.0.0.0/8,192.0.2.1", text)
		}
		all = append(all, p.Masked())
	}
	if all == nil {
		return set, errors.New("expected at least one prefix, such as 10.0.0.0/8")
	}
	return set.With("", all...), nil
}

// flowsConfig returns the configuration of collecting flows.
func (c *config) flowsConfig() live.Flows {
	f := live.Flows{
		Addresses: map[string]string{}, From: map[string]string{},
		Exporters: c.flows.exporters, Direction: flowDirections[c.flows.direction], Rate: uint32(c.flows.sampling),
	}
	for protocol, address := range c.flows.addresses {
		f.Addresses[protocol], f.From[protocol] = *address, c.givenBy(addressFlag(protocol))
	}
	return f
}

// checkCapture returns an error if settings of capturing contradict each other: interfaces where flows are collected, or --mirror where
// nothing can drop frames.
func (c *config) checkCapture() error {
	if c.mirror && !slices.Contains(live.OnRequest(), c.backend) {
		return fmt.Errorf("%s: nothing but --capture=xdp can drop frames, and %s is %s", c.givenBy("mirror"), c.givenBy("capture"), c.backend)
	}
	if live.CollectsFlows(c.backend) && c.isGiven("interface") {
		return fmt.Errorf("%s %q: %s=%s has no interface, and packets that are captured as well would count twice: give one of both",
			c.givenBy("interface"), c.interfaces, c.givenBy("capture"), c.backend)
	}
	return nil
}

// explainMirror logs that nothing arrives to be dropped.
func (c *config) explainMirror(log *slog.Logger) {
	if c.mirror && !c.promiscuous {
		log.Warn("without --promiscuous, network cards keep frames for other machines to themselves: nothing is counted of a mirror port",
			c.givenBy("promiscuous"), false)
	}
}

// explainFlows logs settings that have no effect on flows, or without them.
func (c *config) explainFlows(log *slog.Logger) {
	collects := live.CollectsFlows(c.backend)
	for _, each := range c.all {
		var needs string
		switch {
		case each.givenBy == "":
		case !collects && each.category == "Flows":
			needs = "--capture=" + strings.Join(flowProtocols(), " or ")
		case collects && (each.name == "promiscuous" || each.name == "wait-interface"):
			needs = "an interface, which --capture=" + c.backend + " does not have"
		case collects && strings.HasSuffix(each.name, "-address") && each.category == "Flows" && each.name != addressFlag(c.backend):
			needs = "--capture=" + strings.TrimSuffix(each.name, "-address")
		}
		if needs != "" {
			log.Warn("a setting has no effect", "setting", each.givenBy, "needs", needs)
		}
	}
}

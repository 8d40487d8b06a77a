package names

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"promflow/capture/subnets"
)

const (
	mdnsPerMinute = 240
	mdnsTimeout   = 2 * time.Second // for a host that sleeps
	mdnsKeep      = time.Hour       // a name, and that there was no reply
	mdnsPort      = 5353
	mdnsHopLimit  = 255 // RFC 6762, 11
)

// mdns asks hosts for their names by multicast DNS (RFC 6762): those of addresses that are on-link on this machine. Each gets one question in
// mdnsKeep, in the manner of a one-shot querier (5.1): from a port of its own, so that the reply comes to that port alone. A nil one knows
// none.
type mdns struct {
	answers *reverse
	list    func() ([]link, error)
	links   atomic.Pointer[subnets.Longest[net.Interface]]
	reported
}

// link is a prefix that is on-link on an interface. The zero interface is for a link where nobody is asked, which may be in the prefix of
// another link: questions about a VPN are none of the LAN's business.
type link struct {
	prefix netip.Prefix
	device net.Interface
}

func newMDNS(list func() ([]link, error), limit int, log *slog.Logger) *mdns {
	m := &mdns{list: list, answers: newReverse(mdnsPerMinute, limit, log)}
	m.answers.lookup, m.answers.keepNoName = m.lookup, mdnsKeep
	m.links.Store(&subnets.Longest[net.Interface]{})
	return m
}

// refresh lists what is on-link.
func (m *mdns) refresh() {
	all, err := m.list()
	if m.err = err; err != nil {
		return
	}
	var links subnets.Longest[net.Interface]
	for _, askable := range []bool{true, false} {
		for _, l := range all {
			if askable == (l.device.Index != 0) {
				links.Add(l.prefix, l.device) // if it is on several, the first is asked
			}
		}
	}
	m.links.Store(&links)
}

// name returns the last known name, and asks for a newer one. If there is none, it asks only if it may.
func (m *mdns) name(addr netip.Addr, may bool) string {
	if m == nil || !may && m.known(addr) == "" {
		return ""
	}
	if _, onLink := m.linkOf(addr); !onLink {
		return ""
	}
	name, _ := m.answers.name(addr)
	return name
}

// linkOf returns the interface where the host with an address can be asked.
func (m *mdns) linkOf(addr netip.Addr) (device net.Interface, ok bool) {
	device, ok = m.links.Load().Of(addr)
	return device, ok && device.Index != 0
}

func (m *mdns) known(addr netip.Addr) string {
	if m == nil {
		return ""
	}
	return m.answers.known(addr)
}

// lookup asks the link of an address, and waits for a reply. There is no other error than that there is no name: hosts need not reply.
func (m *mdns) lookup(ctx context.Context, text string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, mdnsTimeout)
	defer cancel()
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return nil, err
	}
	device, onLink := m.linkOf(addr)
	var name string
	if onLink {
		if name, err = m.ask(ctx, addr, device); err == nil {
			return []string{name}, nil
		}
	}
	return nil, &net.DNSError{Err: "no reply", Name: text, IsNotFound: true}
}

// ask sends one question to a link, and returns the first valid reply of it.
func (m *mdns) ask(ctx context.Context, addr netip.Addr, device net.Interface) (string, error) {
	question, err := ptrQuestion(addr)
	if err != nil {
		return "", err
	}
	id := uint16(rand.Uint32())
	packet, err := (&dnsmessage.Message{Header: dnsmessage.Header{ID: id}, Questions: []dnsmessage.Question{question}}).Pack()
	if err != nil {
		return "", err
	}
	c, to, err := openMulticast(addr, device)
	if err != nil {
		return "", err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	if _, err := c.WriteToUDPAddrPort(packet, to); err != nil {
		return "", err
	}
	for b := make([]byte, 9000); ; { // RFC 6762, 17
		n, from, err := c.ReadFromUDPAddrPort(b)
		if err != nil {
			return "", err
		}
		if !m.counts(device, from) {
			continue
		}
		if name, err := parseReply(b[:n], id, question); err == nil {
			return name, nil
		}
	}
}

// counts tells whether a reply from there counts: it must come from the port of multicast DNS, on-link on the interface that was asked
// (RFC 6762, 6 and 11).
func (m *mdns) counts(device net.Interface, from netip.AddrPort) bool {
	addr := from.Addr().Unmap()
	if from.Port() != mdnsPort {
		return false
	}
	if addr.IsLinkLocalUnicast() { // for IPv4 the kernel does not tell which link it is
		return addr.Is4() || addr.Zone() == device.Name
	}
	l, ok := m.links.Load().Of(addr)
	return ok && l.Index == device.Index
}

// openMulticast returns a socket for a question about addr, and where to send it.
func openMulticast(addr netip.Addr, device net.Interface) (c *net.UDPConn, to netip.AddrPort, err error) {
	if addr.Is4() {
		if c, err = net.ListenUDP("udp4", nil); err != nil {
			return nil, to, err
		}
		p := ipv4.NewPacketConn(c)
		err = errors.Join(p.SetMulticastInterface(&device), p.SetMulticastTTL(mdnsHopLimit))
		to = netip.AddrPortFrom(netip.AddrFrom4([4]byte{224, 0, 0, 251}), mdnsPort)
	} else {
		if c, err = net.ListenUDP("udp6", nil); err != nil {
			return nil, to, err
		}
		p := ipv6.NewPacketConn(c)
		err = errors.Join(p.SetMulticastInterface(&device), p.SetMulticastHopLimit(mdnsHopLimit))
		to = netip.AddrPortFrom(netip.MustParseAddr("ff02::fb").WithZone(device.Name), mdnsPort)
	}
	if err != nil {
		c.Close()
		return nil, to, err
	}
	return c, to, nil
}

// ptrQuestion asks for the names of an address (RFC 1035, 3.5; RFC 3596, 2.5).
func ptrQuestion(addr netip.Addr) (dnsmessage.Question, error) {
	bytes := addr.AsSlice()
	var text strings.Builder
	for i := len(bytes) - 1; i >= 0; i-- {
		if addr.Is4() {
			fmt.Fprintf(&text, "%d.", bytes[i])
		} else {
			fmt.Fprintf(&text, "%x.%x.", bytes[i]&0xf, bytes[i]>>4)
		}
	}
	if addr.Is4() {
		text.WriteString("in-addr.arpa.")
	} else {
		text.WriteString("ip6.arpa.")
	}
	name, err := dnsmessage.NewName(text.String())
	return dnsmessage.Question{Name: name, Type: dnsmessage.TypePTR, Class: dnsmessage.ClassINET}, err
}

var errNoReply = errors.New("this is no reply to the question, or has no name")

// parseReply returns the first name that can be shown in a reply to the question with this ID. A querier's socket gets what anybody sends to
// its port.
func parseReply(packet []byte, id uint16, question dnsmessage.Question) (string, error) {
	var p dnsmessage.Parser
	h, err := p.Start(packet)
	if err != nil {
		return "", err
	}
	if !h.Response || h.ID != id || h.OpCode != 0 || h.RCode != dnsmessage.RCodeSuccess {
		return "", errNoReply
	}
	questions, err := p.AllQuestions()
	if err != nil {
		return "", err
	}
	// A responder must repeat the question (RFC 6762, 6.7).
	if len(questions) != 1 || !isOf(questions[0].Name, questions[0].Type, questions[0].Class, question) {
		return "", errNoReply
	}
	for {
		r, err := p.AnswerHeader()
		if err != nil {
			return "", err
		}
		if !isOf(r.Name, r.Type, r.Class, question) {
			if err := p.SkipAnswer(); err != nil {
				return "", err
			}
			continue
		}
		ptr, err := p.PTRResource()
		if err != nil {
			return "", err
		}
		if name := hostname(ptr.PTR.String()); name != "" {
			return name, nil
		}
	}
}

// isOf tells whether a question or answer belongs to a question. The highest bit of a class has another meaning in multicast DNS
// (RFC 6762, 10.2 and 18.12).
func isOf(name dnsmessage.Name, kind dnsmessage.Type, class dnsmessage.Class, question dnsmessage.Question) bool {
	return strings.EqualFold(name.String(), question.Name.String()) && kind == question.Type && class&^(1<<15) == question.Class
}

// appendLink adds the prefix of an interface's address, without the interface if nobody is to be asked there.
func appendLink(all []link, device net.Interface, subnet *net.IPNet) []link {
	const wanted, unwanted = net.FlagUp | net.FlagMulticast, net.FlagLoopback | net.FlagPointToPoint
	addr, ok := netip.AddrFromSlice(subnet.IP)
	bits, _ := subnet.Mask.Size()
	addr = addr.Unmap()
	if !ok || addr.IsLinkLocalUnicast() || bits == 0 || bits >= addr.BitLen() || device.Flags&net.FlagUp == 0 {
		return all
	}
	prefix, err := addr.Prefix(bits)
	if err != nil {
		return all
	}
	if device.Flags&wanted != wanted || device.Flags&unwanted != 0 {
		device = net.Interface{}
	}
	return append(all, link{prefix, device})
}

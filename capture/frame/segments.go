package frame

import "encoding/binary"

// Segments describes a frame that the kernel merged from several packets of one flow (GRO), or will split into several
// (GSO, BIG TCP): on the wire every one of them has the headers that the merged frame has once.
type Segments struct {
	Size      int  // payload bytes of a packet, of all but the last; 0 for a frame that is one packet
	UDP       bool // the segments are UDP's, not TCP's
	Transport int  // offset in Data of the innermost transport header where the kernel told it, else 0
}

// jumboLen is the length of a hop-by-hop header with nothing but the jumbo payload option (RFC 2675).
const jumboLen = 8

// split turns the merged packet whose IP header is at off, and whose transport header is at transport, into its segments.
func (p *Packet) split(f *Frame, off, transport int) {
	s := &f.Segments
	if s.Transport > off {
		transport = s.Transport // knows about tunnels, too
	}
	if int64(transport-off) >= p.Bytes {
		return // not in this packet
	}
	header := 8 // of UDP
	if !s.UDP {
		header = 20
		if at := transport + 12; at < len(f.Data) {
			header = max(header, int(f.Data[at]>>4)*4) // data offset (RFC 9293)
		}
	}
	headers := int64(transport + header - off)
	payload, size := p.Bytes-headers, int64(s.Size)
	if payload <= size {
		return
	}
	p.Packets = (payload-1)/size + 1
	p.Bytes += (p.Packets - 1) * headers
}

// splitIPv6 is split for the IPv6 header at off. Linux may give IPv6 BIG TCP a jumbo payload option that no packet on the
// wire has (include/net/ipv6.h, ipv6_has_hopopt_jumbo): it is taken out.
func (p *Packet) splitIPv6(f *Frame, off int) {
	d := f.Data
	next, at := d[off+6], off+ipv6HeaderLen
	jumbo := 0
	for range maxExtensions {
		if !isExtension(next) || len(d) < at+8 {
			break
		}
		length := 8
		if next != fragment {
			length += int(d[at+1]) * 8
		}
		if next == hopByHop && length == jumboLen && d[at+2] == 0xc2 && binary.BigEndian.Uint16(d[off+4:]) == 0 {
			jumbo = jumboLen
		}
		next, at = d[at], at+length
	}
	if jumbo > 0 {
		// Everything behind the option moves up, as if it had never been there.
		p.Bytes -= jumboLen
		off += jumboLen
	}
	p.split(f, off, at)
}

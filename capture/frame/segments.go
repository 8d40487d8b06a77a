package frame

// Segments describes a frame that the kernel merged from several packets of one flow (GRO), or will split into several (GSO, BIG TCP). On
// the wire each packet has the headers that the merged frame has once.
type Segments struct {
	Size      int  // payload bytes of each packet except the last; 0 for a frame that is one packet
	UDP       bool // the segments are UDP, not TCP
	Transport int  // offset in Data of the innermost transport header, 0 if the kernel does not tell
}

// jumboLen is the length of a hop-by-hop header with nothing but the jumbo payload option (RFC 2675).
const jumboLen = 8

// split counts the packets of a merged segment whose IP header is at off and whose transport header is at transport.
func (p *Packet) split(f *Frame, off, transport int) {
	s := &f.Segments
	if s.Transport > off {
		transport = s.Transport // correct for tunnels, too
	}
	if int64(transport-off) >= p.Bytes {
		return // the transport header is not in this packet
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

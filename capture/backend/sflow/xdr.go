package sflow

import (
	"encoding/binary"
	"net/netip"
)

// xdr reads data in external data representation (RFC 4506) from its beginning.
type xdr struct {
	rest  []byte
	short bool // the data ended too early; what was read since is zero
}

// bytes reads so many bytes.
func (x *xdr) bytes(n uint32) []byte {
	if uint64(n) > uint64(len(x.rest)) {
		x.rest, x.short = nil, true
		return nil
	}
	b := x.rest[:n:n]
	x.rest = x.rest[n:]
	return b
}

// number reads an unsigned integer.
func (x *xdr) number() uint32 {
	if len(x.rest) < 4 {
		x.rest, x.short = nil, true
		return 0
	}
	n := binary.BigEndian.Uint32(x.rest)
	x.rest = x.rest[4:]
	return n
}

// opaque reads a number of bytes, those bytes, and what fills the last four bytes. Some agents leave the filling out at the end.
func (x *xdr) opaque() []byte {
	b := x.bytes(x.number())
	x.rest = x.rest[min(-len(b)&3, len(x.rest)):]
	return b
}

// address reads an address of either family. Without a family it is short.
func (x *xdr) address() netip.Addr {
	switch x.number() {
	case addressIPv4:
		return x.ipv4()
	case addressIPv6:
		return x.ipv6()
	}
	x.rest, x.short = nil, true
	return netip.Addr{}
}

func (x *xdr) ipv4() netip.Addr {
	a, _ := netip.AddrFromSlice(x.bytes(4))
	return a
}

func (x *xdr) ipv6() netip.Addr {
	a, _ := netip.AddrFromSlice(x.bytes(16))
	return a
}

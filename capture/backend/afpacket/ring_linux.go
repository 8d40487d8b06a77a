package afpacket

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"promflow/capture"
	"promflow/capture/frame"
	"promflow/capture/socket"
)

// The ring: 16 MiB hold about 110,000 small frames, which arrive in 70 ms at 1.5 million packets a second. Other threads may
// keep the reader waiting for that long. With many rings, later ones are smaller.
const (
	blockSize  = 256 << 10
	blockCount = 64
	minBlocks  = 2

	frameSize = 2048 // TPACKET_V3 only checks that it divides the block size

	// retireAfter is the age at which the kernel hands over a block that is not full. It checks once per period, so that a
	// packet waits for two periods at most.
	retireAfter = 40 * time.Millisecond
)

const virtioNetHdrLen = 10 // struct virtio_net_hdr, linux/virtio_net.h

// ring is a packet socket and the blocks that it shares with the kernel. Only one goroutine may take blocks.
type ring struct {
	*socket.Socket
	mem     []byte
	blocks  int
	current int          // the block that the kernel hands over next
	bare    atomic.Int32 // index of the interface without Ethernet header that was attached last; 0 is none
}

// attach starts to receive from an interface.
func (r *ring) attach(to capture.Interface, promiscuous bool) error {
	if !to.Ethernet {
		r.bare.Store(int32(to.Index))
	} else {
		r.bare.CompareAndSwap(int32(to.Index), 0)
	}
	return r.Attach(to, promiscuous)
}

// blocksBeside returns the number of blocks for a ring that is opened after others: the first four rings have the full size, and 1024 take
// 700 MiB. With two blocks the kernel fills one while the other is read.
func blocksBeside(others int) int { return max(minBlocks, blockCount/(1+others/4)) }

// openRing opens a ring without interface.
func openRing(blocks int) (*ring, error) {
	s, err := socket.Open(socket.Raw)
	if err != nil {
		return nil, err
	}
	r := &ring{Socket: s, blocks: blocks}
	if err := r.configure(); err != nil {
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

// configure sets the options that must be set before the socket is bound. The kernel wants the first three in this order.
func (r *ring) configure() error {
	if err := r.Set("PACKET_VERSION", unix.PACKET_VERSION, unix.TPACKET_V3); err != nil {
		return err
	}
	if err := r.Set("PACKET_VNET_HDR", unix.PACKET_VNET_HDR, 1); err != nil {
		return err
	}
	if err := r.accept(SnapLen); err != nil {
		return err
	}
	req := unix.TpacketReq3{
		Block_size:     blockSize,
		Block_nr:       uint32(r.blocks),
		Frame_size:     frameSize,
		Frame_nr:       uint32(blockSize / frameSize * r.blocks),
		Retire_blk_tov: uint32(retireAfter.Milliseconds()),
	}
	if err := unix.SetsockoptTpacketReq3(r.FD, unix.SOL_PACKET, unix.PACKET_RX_RING, &req); err != nil {
		return fmt.Errorf("allocating a ring of %d MiB (PACKET_RX_RING): %w", blockSize*r.blocks>>20, err)
	}
	mem, err := unix.Mmap(r.FD, 0, blockSize*r.blocks, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("mapping the ring: %w", err)
	}
	r.mem = mem
	return nil
}

// accept sets a filter with this snap length; 0 accepts no frame.
func (r *ring) accept(snapLen uint32) error {
	filter := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: snapLen}
	err := unix.SetsockoptSockFprog(r.FD, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &filter})
	runtime.KeepAlive(&filter)
	if err != nil {
		return fmt.Errorf("attaching a socket filter: %w", err)
	}
	return nil
}

// block returns the current block and its header, which may still be the kernel's.
func (r *ring) block() ([]byte, *unix.TpacketHdrV1) {
	b := r.mem[r.current*blockSize:][:blockSize]
	desc := (*unix.TpacketBlockDesc)(unsafe.Pointer(&b[0]))
	return b, (*unix.TpacketHdrV1)(unsafe.Pointer(&desc.Hdr[0]))
}

// wait returns once the current block is ready or the socket has an error. After the file's read deadline it returns
// os.ErrDeadlineExceeded.
func (r *ring) wait() error {
	conn, err := r.File.SyscallConn()
	if err != nil {
		return err
	}
	woken := false
	return conn.Read(func(uintptr) bool {
		done := woken || r.ready()
		woken = true
		return done
	})
}

// ready tells whether the kernel has handed over the current block.
func (r *ring) ready() bool {
	_, header := r.block()
	// Go's atomics are sequentially consistent: what the kernel wrote before the status can be read now.
	return atomic.LoadUint32(&header.Block_status)&unix.TP_STATUS_USER != 0
}

// count counts the packets of the current block, which must be ready, and returns the block to the kernel.
func (r *ring) count(c *capture.Counter) {
	b, header := r.block()
	var (
		f frame.Frame
		p frame.Packet
	)
	bare := r.bare.Load()
	c.Lock()
	at := header.Offset_to_first_pkt
	for range header.Num_pkts {
		h := (*unix.Tpacket3Hdr)(unsafe.Pointer(&b[at]))
		// The kernel drops a segment that a virtio_net_hdr cannot describe, but leaves its place in the block, without the rest of
		// its header (af_packet.c, tpacket_rcv).
		if h.Status&unix.TP_STATUS_USER != 0 {
			fill(&f, b[at:], h, bare)
			p.Decode(&f)
			if p.Outcome == frame.NonIP && h.Net == h.Mac {
				decodeBare(&p, &f, b[at:])
			}
			c.Count(&p)
		}
		at += h.Next_offset
	}
	c.Unlock()
	atomic.StoreUint32(&header.Block_status, unix.TP_STATUS_KERNEL)
	r.current = (r.current + 1) % r.blocks
}

// fill sets f to the frame whose header in the ring is at the start of b. The sockaddr_ll behind this header has the type of the
// interface: the ring may still have frames of the one before. Only a tun device can have the type of Ethernet without its header: then
// bare is its index.
func fill(f *frame.Frame, b []byte, h *unix.Tpacket3Hdr, bare int32) {
	start, end := uint32(h.Mac), uint32(h.Mac)+h.Snaplen
	link := uint32(0) // length of a link header to skip
	address := (*unix.RawSockaddrLinklayer)(unsafe.Pointer(&b[unix.SizeofTpacket3Hdr]))
	if (address.Hatype == unix.ARPHRD_ETHER || address.Hatype == unix.ARPHRD_LOOPBACK) && address.Ifindex != bare {
		f.Link = frame.LinkEthernet
	} else {
		f.Link = frame.LinkNone
		f.EtherType = binary.BigEndian.Uint16(b[unix.SizeofTpacket3Hdr+2:]) // its sll_protocol
		link = min(uint32(h.Net)-start, h.Snaplen)
	}
	f.Data = b[start+link : end]
	f.Wire = int(h.Len - link)

	// The header's variant tpacket_hdr_variant1 has the tag that the kernel removed.
	f.Tagged, f.Tag = h.Status&unix.TP_STATUS_VLAN_VALID != 0, uint16(h.Hv1.Vlan_tci)

	f.Segments = frame.Segments{}
	v := b[start-virtioNetHdrLen:][:virtioNetHdrLen]
	if kind := v[1] &^ unix.VIRTIO_NET_HDR_GSO_ECN; kind != unix.VIRTIO_NET_HDR_GSO_NONE {
		f.Segments.Size = int(binary.NativeEndian.Uint16(v[4:]))
		f.Segments.UDP = kind == unix.VIRTIO_NET_HDR_GSO_UDP_L4
		if v[0]&unix.VIRTIO_NET_HDR_F_NEEDS_CSUM != 0 {
			f.Segments.Transport = int(binary.NativeEndian.Uint16(v[6:])) - int(link)
		}
	}
}

// decodeBare decodes a frame again that is not IP in Ethernet and for which the kernel has no link header: if its protocol is IP, the frame
// begins with the IP header. Such frames come from a device that has the type of Ethernet without its header.
func decodeBare(p *frame.Packet, f *frame.Frame, b []byte) {
	protocol := binary.BigEndian.Uint16(b[unix.SizeofTpacket3Hdr+2:]) // sll_protocol
	if f.Link == frame.LinkEthernet && (protocol == unix.ETH_P_IP || protocol == unix.ETH_P_IPV6) {
		f.Link, f.EtherType = frame.LinkNone, protocol
		p.Decode(f)
	}
}

func (r *ring) close() error {
	var err error
	if r.mem != nil {
		err = unix.Munmap(r.mem)
	}
	return errors.Join(err, r.Socket.Close())
}

package afpacket

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"promflow/capture"
	"promflow/capture/frame"
	"promflow/capture/socket"
)

// The ring: 16 MiB hold about 110,000 small frames, which come in 70 ms at 1.5 million packets a second. Other threads may
// have the reader's processor for that long. Where there are many rings, later ones are smaller.
const (
	blockSize  = 256 << 10
	blockCount = 64
	minBlocks  = 2 // of a ring beside many others

	frameSize = 2048 // of no meaning to TPACKET_V3, which checks that it divides a block

	// retireAfter is the age at which the kernel hands over a block that is not full. It looks once a period, so that a
	// packet waits for two at most.
	retireAfter = 40 * time.Millisecond
)

const virtioNetHdrLen = 10 // struct virtio_net_hdr, linux/virtio_net.h

// ring is a packet socket and the blocks that it shares with the kernel. Only one goroutine may take blocks.
type ring struct {
	*socket.Socket
	mem     []byte
	blocks  int
	current int          // the block that the kernel hands over next
	bare    atomic.Int32 // index of the interface that was last said to have no Ethernet header; 0 is none
}

// attach begins to receive from an interface.
func (r *ring) attach(to capture.Interface, promiscuous bool) error {
	if !to.Ethernet {
		r.bare.Store(int32(to.Index))
	} else {
		r.bare.CompareAndSwap(int32(to.Index), 0)
	}
	return r.Attach(to, promiscuous)
}

// blocksBeside gives the size of a ring that is opened beside others: the first four are whole, and 1024 take 700 MiB. At the least
// the kernel fills one block while another is read.
func blocksBeside(others int) int { return max(minBlocks, blockCount/(1+others/4)) }

// openRing makes a ring that is attached to no interface yet.
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

// configure sets what must be set before the socket is bound; the order of the first three is the kernel's.
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

// accept sets how many bytes of a frame the socket takes; with 0 it takes no frame at all.
func (r *ring) accept(snapLen uint32) error {
	program, err := bpf.Assemble([]bpf.Instruction{bpf.RetConstant{Val: snapLen}})
	if err != nil {
		return err
	}
	filter := unix.SockFilter{Code: program[0].Op, K: program[0].K}
	err = unix.SetsockoptSockFprog(r.FD, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &filter})
	runtime.KeepAlive(&filter)
	if err != nil {
		return fmt.Errorf("attaching a socket filter: %w", err)
	}
	return nil
}

// block gives the current block and its header, whoever owns it.
func (r *ring) block() ([]byte, *unix.TpacketHdrV1) {
	b := r.mem[r.current*blockSize:][:blockSize]
	desc := (*unix.TpacketBlockDesc)(unsafe.Pointer(&b[0]))
	return b, (*unix.TpacketHdrV1)(unsafe.Pointer(&desc.Hdr[0]))
}

// wait returns once the current block is ready, the socket has an error, or the file's read deadline is over, with
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
	// Go's atomics are sequentially consistent, so that what the kernel wrote before is seen after.
	return atomic.LoadUint32(&header.Block_status)&unix.TP_STATUS_USER != 0
}

// count counts the packets of the current block, which must be ready, and gives it back.
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
		// Where the kernel has no virtio_net_hdr for a segment it drops the frame, but the place that it had reserved for it
		// stays in the block, without the rest of its header (af_packet.c, tpacket_rcv).
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

// fill describes the frame that b begins with the ring's header of. The sockaddr_ll behind that says what kind of interface it was
// on: the ring may have some of the one that it was attached to before. Only a tun device may say that it has an Ethernet header and
// have none; its index is bare then.
func fill(f *frame.Frame, b []byte, h *unix.Tpacket3Hdr, bare int32) {
	start, end := uint32(h.Mac), uint32(h.Mac)+h.Snaplen
	link := uint32(0) // bytes of a link header that is skipped
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

	// The variant tpacket_hdr_variant1 of the header has the tag that the kernel took out.
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

// decodeBare has another look at a frame that is no Ethernet frame with IP, where the kernel knows of no link header: if it says that
// this is IP, it begins with that. A socket has such frames of a device that says more than it has.
func decodeBare(p *frame.Packet, f *frame.Frame, b []byte) {
	protocol := binary.BigEndian.Uint16(b[unix.SizeofTpacket3Hdr+2:]) // sll_protocol
	if f.Link == frame.LinkEthernet && (protocol == unix.ETH_P_IP || protocol == unix.ETH_P_IPV6) {
		f.Link, f.EtherType = frame.LinkNone, protocol
		p.Decode(f)
	}
}

// drops gives how many packets the kernel has dropped since the last call.
func (r *ring) drops() (int64, error) {
	stats, err := unix.GetsockoptTpacketStatsV3(r.FD, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return 0, err
	}
	return int64(stats.Drops), nil
}

func (r *ring) close() error {
	var err error
	if r.mem != nil {
		err = unix.Munmap(r.mem)
	}
	return errors.Join(err, r.Socket.Close())
}

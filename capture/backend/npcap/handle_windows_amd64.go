package npcap

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/gopacket/pcap"
	"golang.org/x/sys/windows"

	"promflow/capture"
	"promflow/capture/frame"
)

const (
	// bufferSize is the size of the driver's buffer: a frame takes up to SnapLen bytes and some 20 more.
	bufferSize = 4 << 20

	// readTimeout is how long the driver waits for more frames.
	readTimeout = 100 * time.Millisecond
)

// returnConstant is the filter instruction that returns K, the snap length (BPF_RET | BPF_K).
const returnConstant = 0x06

// handle is a capture on an interface. Only one goroutine may read from it.
type handle struct {
	*pcap.Handle
	reading sync.Mutex // a read returns memory of wpcap.dll, which is freed when the handle is closed
	index   int        // of the interface
	link    frame.Link
	dropped uint32 // the driver's count when it was last taken
}

// entry returns what Windows has about an interface.
func entry(index int) (*windows.MibIfRow2, error) {
	row := &windows.MibIfRow2{InterfaceIndex: uint32(index)}
	return row, windows.GetIfEntry2Ex(windows.MibIfEntryNormalWithoutStatistics, row)
}

// deviceOf returns Npcap's name of an interface.
func deviceOf(i capture.Interface) (string, error) {
	if i.Loopback {
		return `\Device\NPF_Loopback`, nil // which has no GUID
	}
	row, err := entry(i.Index)
	if err != nil {
		return "", fmt.Errorf("asking for the GUID of %s: %w", i.Name, err)
	}
	return `\Device\NPF_` + row.InterfaceGuid.String(), nil
}

// openHandle starts to capture on an interface.
func openHandle(on capture.Interface, promiscuous bool) (*handle, error) {
	device, err := deviceOf(on)
	if err != nil {
		return nil, err
	}
	active, err := activate(device, promiscuous)
	if err != nil {
		return nil, fmt.Errorf("capturing on %s (%s): %w", on.Name, device, err)
	}
	h := &handle{Handle: active, index: on.Index}
	linkType := uint32(active.LinkType())
	if h.link = frame.LinkOfType(linkType); h.link == frame.LinkUnknown || h.link.InFilesOnly() {
		h.Close()
		return nil, fmt.Errorf("the link layer of %s (DLT %d) is not supported", on.Name, linkType)
	}
	// Without a filter the driver copies whole frames, and libpcap cuts them to the snap length.
	if err := h.SetBPFInstructionFilter([]pcap.BPFInstruction{{Code: returnConstant, K: SnapLen}}); err != nil {
		h.Close()
		return nil, fmt.Errorf("setting a filter on %s: %w", on.Name, err)
	}
	return h, nil
}

func activate(device string, promiscuous bool) (*pcap.Handle, error) {
	inactive, err := pcap.NewInactiveHandle(device)
	if err != nil {
		return nil, err
	}
	defer inactive.CleanUp()
	if err := errors.Join(inactive.SetSnapLen(SnapLen), inactive.SetPromisc(promiscuous), inactive.SetTimeout(readTimeout),
		inactive.SetBufferSize(bufferSize)); err != nil {
		return nil, err
	}
	return inactive.Activate()
}

// next reads a frame and decodes it to p. The data of f is not valid any more when next returns. The error is io.EOF once the handle is
// closed, and pcap.NextErrorTimeoutExpired after the timeout.
func (h *handle) next(f *frame.Frame, p *frame.Packet) error {
	h.reading.Lock()
	defer h.reading.Unlock()
	data, info, err := h.ZeroCopyReadPacketData()
	if err != nil {
		return err
	}
	f.Data, f.Wire = data, info.Length
	p.Decode(f)
	return nil
}

// close waits until no read is running.
func (h *handle) close() {
	h.reading.Lock()
	defer h.reading.Unlock()
	h.Close()
}

// up tells whether the interface exists and is up.
func (h *handle) up() bool {
	row, err := entry(h.index)
	return err == nil && row.OperStatus == windows.IfOperStatusUp
}

//go:build darwin || freebsd || openbsd

package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"promflow/capture"
	"promflow/capture/frame"
)

// here is the layout of this system.
var here = layout{captured: int(unsafe.Offsetof(unix.BpfHdr{}.Caplen)), alignment: unix.BPF_ALIGNMENT}

const (
	// bufferSize is what macOS and FreeBSD allow by default, if the administrator says nothing else. The kernel has two of them: it
	// fills one while the other is read.
	bufferSize = 512 << 10

	// readTimeout is for how long a read waits for a buffer to be full.
	readTimeout = 100 * time.Millisecond

	maxDevices = 256 // nodes that are tried; macOS has no more (debug.bpf_maxdevices)
)

// device is an open node of bpf(4), for the frames of one interface. Only one goroutine may read from it.
type device struct {
	fd      int
	buf     []byte // as long as the kernel's, which a read insists on
	link    frame.Link
	dropped uint32 // as the kernel said last

	stopped bool // takes no more frames
	reads   int  // since it was stopped
}

// openDevice opens a device that has no interface yet.
func openDevice() (*device, error) {
	fd, err := openNode()
	if err != nil {
		return nil, err
	}
	d := &device{fd: fd}
	if err := d.configure(); err != nil {
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

// openNode opens a node that nobody else has: /dev/bpf makes one, where there is that, and others are taken in turn.
func openNode() (int, error) {
	const flags = unix.O_RDONLY | unix.O_CLOEXEC
	node := "/dev/bpf"
	fd, err := unix.Open(node, flags, 0)
	for n := 0; n < maxDevices && (errors.Is(err, unix.ENOENT) && n == 0 || errors.Is(err, unix.EBUSY)); n++ {
		node = fmt.Sprint("/dev/bpf", n)
		fd, err = unix.Open(node, flags, 0)
	}
	switch {
	case errors.Is(err, unix.ENOENT) && node == "/dev/bpf0":
		return 0, fmt.Errorf("there is no %s (%w): %w", node, err, errors.ErrUnsupported)
	case errors.Is(err, os.ErrPermission):
		return 0, fmt.Errorf("opening %s: %w (needs root, or the right to read it)", node, err)
	case err != nil:
		return 0, fmt.Errorf("opening %s: %w", node, err)
	}
	return fd, nil
}

// configure sets what must be set before there is an interface.
func (d *device) configure() error {
	size := uint32(bufferSize) // which becomes less if that is too much
	if err := ioctl(d.fd, "BIOCSBLEN", unix.BIOCSBLEN, &size); err != nil {
		return err
	}
	d.buf = make([]byte, size)
	timeout := unix.NsecToTimeval(readTimeout.Nanoseconds())
	if err := ioctl(d.fd, "BIOCSRTIMEOUT", unix.BIOCSRTIMEOUT, &timeout); err != nil {
		return err
	}
	return d.filter("BIOCSETF", unix.BIOCSETF, SnapLen)
}

// attach begins to take the frames of an interface.
func (d *device) attach(to capture.Interface) error {
	r := newRequest(to.Name)
	if err := ioctl(d.fd, "BIOCSETIF", unix.BIOCSETIF, &r); err != nil {
		return fmt.Errorf("capturing on %s: %w", to.Name, err)
	}
	var dlt uint32
	if err := ioctl(d.fd, "BIOCGDLT", unix.BIOCGDLT, &dlt); err != nil {
		return fmt.Errorf("asking for the link layer of %s: %w", to.Name, err)
	}
	// Numbers are those of capture files but for this one, which is 12 on OpenBSD: raw IP elsewhere.
	if d.link = frame.LinkOfType(dlt); dlt == unix.DLT_LOOP {
		d.link = frame.LinkLoop
	}
	if d.link == frame.LinkUnknown {
		return fmt.Errorf("the link layer of %s (DLT %d) is not supported", to.Name, dlt)
	}
	return nil
}

func (d *device) promiscuous() error {
	return ioctl(d.fd, "BIOCPROMISC", unix.BIOCPROMISC, (*byte)(nil))
}

// filter has the device take so many bytes of each frame.
func (d *device) filter(name string, request uintptr, snapLen uint32) error {
	all := unix.BpfInsn{Code: unix.BPF_RET | unix.BPF_K, K: snapLen}
	err := ioctl(d.fd, name, request, &unix.BpfProgram{Len: 1, Insns: &all})
	runtime.KeepAlive(&all)
	return err
}

// read waits for records, and gives none if there were none in time. They are valid until the next read.
func (d *device) read() ([]byte, error) {
	for {
		n, err := unix.Read(d.fd, d.buf)
		switch {
		case err == nil:
			return d.buf[:n], nil
		case errors.Is(err, unix.EAGAIN):
			return nil, nil
		case !errors.Is(err, unix.EINTR):
			return nil, err
		}
	}
}

// drops gives how many frames the kernel has dropped since the last call, of which its own count has 32 bits.
func (d *device) drops() (int64, error) {
	var stat unix.BpfStat
	if err := ioctl(d.fd, "BIOCGSTATS", unix.BIOCGSTATS, &stat); err != nil {
		return 0, err
	}
	more := stat.Drop - d.dropped
	d.dropped = stat.Drop
	return int64(more), nil
}

// up tells whether the device has an interface that is there, and up.
func (d *device) up() bool {
	var r request
	if ioctl(d.fd, "BIOCGETIF", unix.BIOCGETIF, &r) != nil { // it is gone
		return false
	}
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return false
	}
	defer unix.Close(s)
	return ioctl(s, "SIOCGIFFLAGS", unix.SIOCGIFFLAGS, &r) == nil && r.flags()&unix.IFF_UP != 0
}

func (d *device) close() error { return unix.Close(d.fd) }

// isGone tells that an error is of an interface that is no longer there, as the systems say in different ways: OpenBSD revokes the
// device, so that reads give EIO and all else EBADF.
func isGone(err error) bool {
	return slices.ContainsFunc([]error{unix.ENXIO, unix.ENODEV, unix.ENETDOWN, unix.EIO, unix.EBADF},
		func(gone error) bool { return errors.Is(err, gone) })
}

// request is struct ifreq, a question about an interface (net/if.h).
type request struct {
	name [unix.IFNAMSIZ]byte
	data [16]byte
}

func newRequest(name string) (r request) {
	copy(r.name[:unix.IFNAMSIZ-1], name)
	return r
}

func (r *request) flags() uint16 { return binary.NativeEndian.Uint16(r.data[:]) }

// ioctl asks the kernel for what is called so. Package unix has nothing that takes any pointer, and would rather have libc called: Go
// does so for this number where the system insists on it, as OpenBSD does (go.dev/issue/63900).
func ioctl[T any](fd int, name string, request uintptr, argument *T) error {
	if _, _, errno := unix.Syscall(syscall.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(argument))); errno != 0 {
		return fmt.Errorf("%s: %w", name, errno)
	}
	return nil
}

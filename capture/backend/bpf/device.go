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
	// bufferSize is the default limit of macOS and FreeBSD. The kernel has two buffers: it fills one while the other is read.
	bufferSize = 512 << 10

	// readTimeout is how long a read waits for a full buffer.
	readTimeout = 100 * time.Millisecond

	maxDevices = 256 // how many nodes are tried; macOS has no more (debug.bpf_maxdevices)
)

// device is an open node of bpf(4), for the frames of one interface. Only one goroutine may read from it.
type device struct {
	fd      int
	buf     []byte // must have the size of the kernel's buffer
	link    frame.Link
	dropped uint32 // the kernel's count when it was last taken

	stopped bool // takes no more frames
	reads   int  // since it was stopped
}

// openDevice opens a device without interface.
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

// openNode opens a node that is not in use: /dev/bpf, which makes one, or the first free one of /dev/bpf0, /dev/bpf1 and so on.
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

// configure sets the options that must be set before the interface.
func (d *device) configure() error {
	size := uint32(bufferSize) // the kernel sets it to a lower limit
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

// attach sets the interface.
func (d *device) attach(to capture.Interface) error {
	var r request
	copy(r.name[:unix.IFNAMSIZ-1], to.Name)
	if err := ioctl(d.fd, "BIOCSETIF", unix.BIOCSETIF, &r); err != nil {
		return fmt.Errorf("capturing on %s: %w", to.Name, err)
	}
	var dlt uint32
	if err := ioctl(d.fd, "BIOCGDLT", unix.BIOCGDLT, &dlt); err != nil {
		return fmt.Errorf("asking for the link layer of %s: %w", to.Name, err)
	}
	// The numbers are those of capture files, except this one: it is 12 on OpenBSD, which is raw IP elsewhere.
	if d.link = frame.LinkOfType(dlt); dlt == unix.DLT_LOOP {
		d.link = frame.LinkLoop
	}
	if d.link == frame.LinkUnknown || d.link.InFilesOnly() {
		return fmt.Errorf("the link layer of %s (DLT %d) is not supported", to.Name, dlt)
	}
	return nil
}

// filter sets a filter with this snap length.
func (d *device) filter(name string, request uintptr, snapLen uint32) error {
	all := unix.BpfInsn{Code: unix.BPF_RET | unix.BPF_K, K: snapLen}
	err := ioctl(d.fd, name, request, &unix.BpfProgram{Len: 1, Insns: &all})
	runtime.KeepAlive(&all)
	return err
}

// read waits for records, and returns none after the timeout. They are valid until the next read.
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

// up tells whether the interface exists and is up.
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
	return ioctl(s, "SIOCGIFFLAGS", unix.SIOCGIFFLAGS, &r) == nil && binary.NativeEndian.Uint16(r.data[:])&unix.IFF_UP != 0
}

func (d *device) close() error { return unix.Close(d.fd) }

// isGone tells whether an error is that of an interface that is gone, which differs by system. OpenBSD revokes the device: then reads
// return EIO and other calls EBADF.
func isGone(err error) bool {
	return slices.ContainsFunc([]error{unix.ENXIO, unix.ENODEV, unix.ENETDOWN, unix.EIO, unix.EBADF},
		func(gone error) bool { return errors.Is(err, gone) })
}

// request is struct ifreq, a request about an interface (net/if.h).
type request struct {
	name [unix.IFNAMSIZ]byte
	data [16]byte
}

// ioctl calls ioctl(2); name is the request's, for errors. Package unix has no function for any pointer. On OpenBSD, which allows system
// calls from libc only, Go makes this one through libc (go.dev/issue/63900).
func ioctl[T any](fd int, name string, request uintptr, argument *T) error {
	if _, _, errno := unix.Syscall(syscall.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(argument))); errno != 0 {
		return fmt.Errorf("%s: %w", name, errno)
	}
	return nil
}

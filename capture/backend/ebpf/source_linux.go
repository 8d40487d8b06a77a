package ebpf

import (
	"errors"

	"golang.org/x/sys/unix"

	"promflow/capture"
	"promflow/capture/kernel"
	"promflow/capture/socket"
)

// Backend is the list entry of this package.
var Backend = capture.Backend{Name: "ebpf", Capabilities: "cap_net_raw,cap_bpf", Open: open}

func open(c capture.Config, interfaces int) (capture.Capture, error) {
	return kernel.Open(c, interfaces, kernel.Sockets, func(p *kernel.Program) (kernel.Tap, error) { return openTap(c, p) })
}

// tap is two packet sockets whose filters count. The link layer of the interface decides which of them is attached.
type tap struct {
	config      capture.Config
	raw, cooked *socket.Socket
}

func openTap(c capture.Config, p *kernel.Program) (*tap, error) {
	raw, err := openSocket(c, socket.Raw, p.Ethernet)
	if err != nil {
		return nil, err
	}
	cooked, err := openSocket(c, socket.Cooked, p.Network)
	if err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	return &tap{c, raw, cooked}, nil
}

func openSocket(c capture.Config, kind socket.Kind, f kernel.Filter) (*socket.Socket, error) {
	s, err := socket.Open(kind)
	if err != nil {
		return nil, err
	}
	err = f.AttachTo(s)
	if err == nil && !c.Changes {
		err = unix.SetsockoptInt(s.FD, unix.SOL_SOCKET, unix.SO_LOCK_FILTER, 1) // it stays for good, whoever comes by the socket
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (t *tap) Attach(to capture.Interface, _ *kernel.Program) error {
	s := t.cooked
	if to.Ethernet {
		s = t.raw
	}
	return s.Attach(to, t.config.Promiscuous)
}

func (t *tap) Detach() error { return errors.Join(t.raw.Detach(), t.cooked.Detach()) }

func (t *tap) Move(to *kernel.Program) error {
	return errors.Join(to.Ethernet.AttachTo(t.raw), to.Network.AttachTo(t.cooked))
}

func (t *tap) Up() bool { return t.raw.Up() || t.cooked.Up() }

func (t *tap) Close() error { return errors.Join(t.raw.Close(), t.cooked.Close()) }

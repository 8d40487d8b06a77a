package xdp

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"promflow/capture"
	"promflow/capture/driver"
	"promflow/capture/kernel"
	"promflow/capture/labels"
	"promflow/capture/socket"
)

// Backend is the list entry of this package.
var Backend = capture.Backend{Name: "xdp", Capabilities: "cap_net_raw,cap_net_admin,cap_bpf,cap_perfmon", Open: open}

func open(c capture.Config, interfaces int) (capture.Capture, error) {
	hooks := kernel.XDPAndTCX
	if kernel.Before(6, 6) {
		hooks = kernel.XDPAndSockets
	}
	opened, err := openWith(c, interfaces, hooks)
	if errors.Is(err, errNoTCX) {
		return openWith(c, interfaces, kernel.XDPAndSockets)
	}
	return opened, err
}

func openWith(c capture.Config, interfaces int, hooks kernel.Hooks) (capture.Capture, error) {
	return kernel.Open(c, interfaces, hooks, func(p *kernel.Program) (kernel.Tap, error) { return openTap(c, hooks, p) })
}

// tap is a link of each program to the interface.
type tap struct {
	config capture.Config
	hooks  kernel.Hooks

	// socket makes the interface promiscuous, and knows whether it is there. Where there is no tcx, its filter counts what is sent.
	socket *socket.Socket

	arriving, sent link.Link // nil while no interface is attached; sent also where the socket counts
	to             capture.Interface
	tags           bool // the driver tells the program VLAN tags that it has removed
	was            bool // attached to an interface at some time
}

func openTap(c capture.Config, hooks kernel.Hooks, p *kernel.Program) (*tap, error) {
	if hooks == kernel.XDPAndTCX {
		if err := probeTCX(p); err != nil {
			return nil, err
		}
	}
	s, err := socket.Open(socket.Raw)
	if err != nil {
		return nil, err
	}
	t := &tap{config: c, hooks: hooks, socket: s}
	if err := t.moveSocket(p); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return t, nil
}

var errNoTCX = errors.New("this kernel lacks tcx")

// probeTCX attaches to an interface that cannot exist. A kernel without tcx (CONFIG_NET_XGRESS) does not even look for it.
func probeTCX(p *kernel.Program) error {
	l, err := attachTCX(math.MaxInt32, p)
	switch {
	case err == nil:
		return l.Close()
	case errors.Is(err, ebpf.ErrNotSupported):
		return errNoTCX
	}
	return nil
}

// attachTCX attaches the program for what is sent before all others: one of these may end the run of programs.
func attachTCX(index int, p *kernel.Program) (link.Link, error) {
	return link.AttachTCX(link.TCXOptions{Interface: index, Program: p.Ethernet.Count, Attach: ebpf.AttachTCXEgress, Anchor: link.Head()})
}

func (t *tap) Attach(to capture.Interface, p *kernel.Program) error {
	if err := t.check(to); err != nil {
		return err
	}
	err := t.attach(to, p)
	if err != nil && isGone(to) {
		err = fmt.Errorf("%s: %w", to.Name, unix.ENODEV)
	}
	if err != nil {
		return errors.Join(err, t.Detach())
	}
	t.was = true
	return nil
}

// check says why XDP is not for an interface.
func (t *tap) check(to capture.Interface) error {
	kind := ""
	if l, err := netlink.LinkByIndex(to.Index); err == nil {
		kind = l.Type()
	}
	switch {
	case to.Loopback || !to.Ethernet:
		return fmt.Errorf("%s has no driver with XDP: use --capture=ebpf there: %w", to.Name, errors.ErrUnsupported)
	case kind == "tuntap":
		return fmt.Errorf("%s is a tap device, where XDP may see merged segments: use --capture=ebpf there: %w", to.Name, errors.ErrUnsupported)
	case kind == "bond":
		return fmt.Errorf("%s is a bond, which leaves XDP to its ports: capture these, or use --capture=ebpf: %w", to.Name, errors.ErrUnsupported)
	case t.config.Mirror && to.Shared != "" && !t.was:
		return fmt.Errorf("--mirror would drop frames of %s that are for %s: leave --mirror out, or capture an interface that nothing else uses",
			to.Name, to.Shared)
	}
	return nil
}

func (t *tap) attach(to capture.Interface, p *kernel.Program) (err error) {
	t.to = to
	if t.tags, err = t.tagsOf(p); err != nil {
		return err
	}
	arriving, end, err := t.arrivingOn(p)
	if err != nil {
		return err
	}
	defer end()
	if t.arriving, err = link.AttachXDP(link.XDPOptions{Program: arriving, Interface: to.Index, Flags: link.XDPDriverMode}); err != nil {
		t.arriving = nil
		return explain(to, err)
	}
	if t.hooks == kernel.XDPAndTCX {
		if t.sent, err = attachTCX(to.Index, p); err != nil {
			t.sent = nil
			return fmt.Errorf("attaching an eBPF program to what %s sends: %w", to.Name, err)
		}
		return t.socket.Hold(to, t.config.Promiscuous)
	}
	return t.socket.Attach(to, t.config.Promiscuous)
}

// tagsOf tells whether the driver is to be asked for VLAN tags that it has removed. It is an error if these are needed and it cannot tell.
func (t *tap) tagsOf(p *kernel.Program) (bool, error) {
	if g := t.config.Table.Grouping(); g == nil || !g.Labels().Has(labels.VLAN) {
		return false, nil
	}
	if p.AsksForTags() {
		if features, err := driver.FeaturesOf(t.to.Index); err != nil || features.Tags {
			return features.Tags, err
		}
	}
	switch removed, err := tagsRemoved(t.to.Name); {
	case err != nil:
		return false, err
	case len(removed) > 0:
		return false, fmt.Errorf("--labels=vlan: the driver%s of %s removes VLAN tags before XDP sees them: run ethtool -K %s %s off, or use --capture=ebpf",
			driverOf(t.to.Name), t.to.Name, t.to.Name, strings.Join(removed, " off "))
	}
	return false, nil
}

// arrivingOn returns the program that counts what arrives. Its end closes one that is for this interface alone: once attached, it stays.
func (t *tap) arrivingOn(p *kernel.Program) (_ *ebpf.Program, end func(), err error) {
	if !t.tags {
		return p.Arriving, func() {}, nil
	}
	program, err := p.ArrivingWithTags(t.to.Index)
	return program, func() { program.Close() }, err
}

// explain says why a driver did not take the XDP program.
func explain(to capture.Interface, err error) error {
	doing := "attaching an XDP program to " + to.Name
	if other := otherProgram(to.Index); other != "" {
		return fmt.Errorf("%s: it has one, %s: use --capture=ebpf there: %w", doing, other, err)
	}
	switch {
	case errors.Is(err, unix.EOPNOTSUPP):
		offloads := ""
		if driverOf(to.Name) != "" {
			offloads = fmt.Sprintf(", or not with its present offloads (ethtool -K %s lro off rx-gro-hw off)", to.Name)
		}
		return fmt.Errorf("%s: its driver%s has no XDP%s: use --capture=ebpf there: %w (%w)", doing, driverOf(to.Name), offloads, errors.ErrUnsupported, err)
	case errors.Is(err, os.ErrPermission):
		return &capture.MissingCapabilityError{Capability: "cap_net_admin", Doing: doing, Err: err}
	}
	return fmt.Errorf("%s: its driver%s refuses, perhaps for its MTU or its number of queues: use --capture=ebpf there: %w", doing, driverOf(to.Name), err)
}

// otherProgram describes the XDP program that an interface has, or returns nothing if it has none.
func otherProgram(index int) string {
	l, err := netlink.LinkByIndex(index)
	if err != nil || l.Attrs().Xdp == nil || !l.Attrs().Xdp.Attached {
		return ""
	}
	id := ebpf.ProgramID(l.Attrs().Xdp.ProgId)
	name := "whose name CAP_SYS_ADMIN can see"
	if p, err := ebpf.NewProgramFromID(id); err == nil {
		defer p.Close()
		if info, err := p.Info(); err == nil {
			name = info.Name
		}
	}
	return fmt.Sprintf("%s with id %d", name, id)
}

func (t *tap) Detach() error {
	errs := []error{t.socket.Detach()}
	for _, l := range []*link.Link{&t.arriving, &t.sent} {
		if *l != nil {
			errs = append(errs, (*l).Close())
			*l = nil
		}
	}
	return errors.Join(errs...)
}

// Move leaves a tap whose interface is gone as it is: package watch will hear of that.
func (t *tap) Move(to *kernel.Program) error {
	if err := t.moveSocket(to); err != nil {
		return err
	}
	err := t.moveLinks(to)
	if err != nil && (errors.Is(err, unix.ENOLINK) || isGone(t.to)) {
		return nil
	}
	return err
}

// isGone tells whether an interface was deleted.
func isGone(i capture.Interface) bool {
	_, err := netlink.LinkByIndex(i.Index)
	return errors.As(err, new(netlink.LinkNotFoundError))
}

func (t *tap) moveLinks(to *kernel.Program) error {
	if t.arriving != nil {
		arriving, end, err := t.arrivingOn(to)
		if err != nil {
			return err
		}
		defer end()
		if err := t.arriving.Update(arriving); err != nil {
			return fmt.Errorf("moving to another XDP program: %w", err)
		}
	}
	if t.sent != nil {
		if err := t.sent.Update(to.Ethernet.Count); err != nil {
			return fmt.Errorf("moving to another eBPF program for what is sent: %w", err)
		}
	}
	return nil
}

// moveSocket has the socket's filter count what is sent, where there is no tcx.
func (t *tap) moveSocket(to *kernel.Program) error {
	if t.hooks == kernel.XDPAndTCX {
		return nil
	}
	return to.Ethernet.AttachTo(t.socket)
}

func (t *tap) Up() bool { return t.socket.Up() && !isCut(t.arriving) && !isCut(t.sent) }

// isCut tells whether somebody else has detached the program of a link, as bpftool(8) can.
func isCut(l link.Link) bool {
	if l == nil {
		return false
	}
	info, err := l.Info()
	if err != nil {
		return false // an old kernel does not tell without CAP_BPF
	}
	if x := info.XDP(); x != nil {
		return x.Ifindex == 0
	}
	x := info.TCX()
	return x != nil && x.Ifindex == 0
}

func (t *tap) Close() error { return errors.Join(t.Detach(), t.socket.Close()) }

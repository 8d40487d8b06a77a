package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"promflow/app/live"
	"promflow/capture/nettest"
)

// TestKilledAtAnyMoment kills programs while they start, give up root, and follow an interface that goes down and up: they cannot
// tidy up, the kernel must do it.
func TestKilledAtAnyMoment(t *testing.T) {
	t.Parallel()
	const moments = 12
	for _, backend := range slices.Concat(live.Backends(), live.OnRequest()) {
		t.Run(backend, func(t *testing.T) {
			here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
			here.Veth("here", there, "there")
			args := []string{"--metrics-address=127.0.0.1:0", "--interface=here", "--capture=" + backend}
			began := time.Now()
			p := start(t, here, inside(t, here, args...)).listening()
			startTime := time.Since(began)
			if got := promiscuity(t, here, "here"); got != 1 {
				t.Errorf("promiscuous %d times, want 1: the test shows little", got)
			}
			p.kill(t)

			stop, stopped := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(stopped)
				for state := 0; ; state = 1 - state {
					select {
					case <-stop:
						return
					case <-time.After(startTime / 5):
						here.Command("ip", "link", "set", "here", []string{"down", "up"}[state]).Run()
					}
				}
			}()
			t.Cleanup(func() { close(stop); <-stopped })
			var objects bpf
			for i := range moments {
				p := start(t, here, inside(t, here, args...))
				time.Sleep(startTime * time.Duration(i) / (moments / 2)) // up to twice: any moment will do
				objects.add(p.kill(t))
			}
			if found := len(objects.programs) > 0 && len(objects.maps) > 0; found != (backend != "afpacket") {
				t.Errorf("the kernel had %+v for what was killed", objects)
			}
			eventually(t, func() error {
				if left, got := objects.left(t), promiscuity(t, here, "here"); len(left) > 0 || got != 0 {
					return fmt.Errorf("left are %v, and the interface is promiscuous %d times", left, got)
				}
				return nil
			})
			if link := here.IP("-d", "link", "show", "here"); strings.Contains(link, "xdp") {
				t.Errorf("the interface has %s", link)
			}
			filters, err := here.Command("tc", "qdisc", "show", "dev", "here").Output()
			if err != nil || strings.Contains(string(filters), "clsact") || strings.Contains(string(filters), "ingress") {
				t.Errorf("traffic control has %s, %v", filters, err)
			}
		})
	}
}

// kill has the program stand still, looks at what it has in the kernel, and kills it.
func (p *program) kill(t *testing.T) bpf {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	objects := bpfObjects(t, p.cmd.Process.Pid)
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-p.ended
	return objects
}

var promiscuous = regexp.MustCompile(`promiscuity (\d+)`)

// promiscuity is how many users have asked for all frames of an interface.
func promiscuity(t *testing.T, ns *nettest.Namespace, device string) int {
	t.Helper()
	m := promiscuous.FindStringSubmatch(ns.IP("-d", "link", "show", device))
	if m == nil {
		t.Fatal("ip does not say whether an interface is promiscuous")
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// bpf has the identifiers of objects in the kernel.
type bpf struct {
	programs []ebpf.ProgramID
	maps     []ebpf.MapID
}

func (objects *bpf) add(more bpf) {
	objects.programs = append(objects.programs, more.programs...)
	objects.maps = append(objects.maps, more.maps...)
}

var mapID = regexp.MustCompile(`(?m)^map_id:\t(\d+)$`)

// bpfObjects finds the maps that a process has open, and the programs that use one of them, which may hang on a socket.
func bpfObjects(t *testing.T, pid int) (objects bpf) {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		info, _ := os.ReadFile(file) // the file may have been closed
		for _, m := range mapID.FindAllSubmatch(info, -1) {
			id, err := strconv.ParseUint(string(m[1]), 10, 32)
			if err != nil {
				t.Fatal(err)
			}
			objects.maps = append(objects.maps, ebpf.MapID(id))
		}
	}
	for id := ebpf.ProgramID(0); ; {
		id, err = ebpf.ProgramGetNextID(id)
		if errors.Is(err, os.ErrNotExist) {
			return objects
		}
		if err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(mapsOf(t, id), func(m ebpf.MapID) bool { return slices.Contains(objects.maps, m) }) {
			objects.programs = append(objects.programs, id)
		}
	}
}

// mapsOf gives the maps of a program; it has none once it is gone.
func mapsOf(t *testing.T, id ebpf.ProgramID) []ebpf.MapID {
	t.Helper()
	program, err := ebpf.NewProgramFromID(id)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	info, err := program.Info()
	if err != nil {
		t.Fatal(err)
	}
	maps, _ := info.MapIDs()
	return maps
}

// left gives those of the objects that are still there.
func (objects bpf) left(t *testing.T) (left []string) {
	t.Helper()
	for _, id := range objects.programs {
		p, err := ebpf.NewProgramFromID(id)
		if err == nil {
			left = append(left, p.String())
			p.Close()
		} else if !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	// To open a map of programs while the kernel empties it, as it does when the last who has it open is gone, leaks it: on the next close it
	// is held for another emptying, which has no place in the queue beside the first (prog_array_map_clear of kernel/bpf/arraymap.c).
	for _, id := range objects.maps {
		next, err := ebpf.MapGetNextID(id - 1)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		if err == nil && next == id {
			left = append(left, fmt.Sprint("map ", id))
		}
	}
	return left
}

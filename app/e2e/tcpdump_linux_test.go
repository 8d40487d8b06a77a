package e2e

import (
	"bytes"
	"fmt"
	"iter"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"promflow/capture/nettest"
)

// tcpdump captures what a device sends and receives, frame by frame, to a file until the test ends.
func tcpdump(t *testing.T, ns *nettest.Namespace, device string) (file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), device+".pcap")
	cmd := ns.Command("tcpdump", "-i", device, "-s", "128", "-B", "65536", "--immediate-mode", "-Z", "root", "-U", "-w", file)
	ready := newLineWaiter("listening on")
	cmd.Stderr = ready
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		cmd.Wait()
		if !strings.Contains(ready.String(), "\n0 packets dropped by kernel") {
			t.Errorf("tcpdump is no reference: %s", ready)
		}
	})
	ready.wait(t)
	return file
}

// counted adds up what is in a file that tcpdump is writing, as gopacket reads it, without what is excluded.
func counted(t *testing.T, file string) (all map[string]counts, longest int) {
	t.Helper()
	all = map[string]counts{}
	for data, size := range frames(t, file) {
		p := gopacket.NewPacket(data, layers.LayerTypeEthernet, gopacket.DecodeOptions{Lazy: true, NoCopy: true})
		var from, to net.IP
		var length int64
		switch ip := p.NetworkLayer().(type) {
		case *layers.IPv4:
			from, to, length = ip.SrcIP, ip.DstIP, int64(ip.Length)
		case *layers.IPv6:
			from, to, length = ip.SrcIP, ip.DstIP, 40+int64(ip.Length)
		default:
			continue
		}
		if from.IsLinkLocalUnicast() || to.IsMulticast() { // neighbour discovery, IGMP and the like
			continue
		}
		src, dst := from.String(), to.String()
		if strings.HasPrefix(src, "10.66.") || strings.HasPrefix(dst, "10.66.") {
			continue
		}
		longest = max(longest, size)
		sent, received := all[src], all[dst]
		sent.transmitBytes += length
		sent.transmitPackets++
		received.receiveBytes += length
		received.receivePackets++
		all[src], all[dst] = sent, received // the same address twice does not occur
	}
	return all, longest
}

// onTheWire is counted, for a device that has packets one by one, and some already.
func onTheWire(t *testing.T, file string) (map[string]counts, error) {
	t.Helper()
	all, longest := counted(t, file)
	if len(all) == 0 || longest > 1500+14 {
		return nil, fmt.Errorf("tcpdump saw %v, in frames of up to %d bytes", all, longest)
	}
	return all, nil
}

// mustHaveTags checks all frames of a file of tcpdump's, which puts a tag back that the kernel took out.
func mustHaveTags(t *testing.T, file string, tags []vlan) {
	t.Helper()
	n, want := 0, string(header(tags))
	for data := range frames(t, file) {
		if n++; !strings.HasPrefix(string(data[12:]), want) {
			t.Errorf("a frame on the router's interface begins with %x", data[:22])
		}
	}
	if n == 0 {
		t.Error("the router's interface has seen nothing")
	}
}

// frames gives the frames of a file that tcpdump is writing, as far as it has got, and their lengths on the wire.
func frames(t *testing.T, file string) iter.Seq2[[]byte, int] {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	r, err := pcapgo.NewReader(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	return func(yield func([]byte, int) bool) {
		for {
			data, info, err := r.ReadPacketData()
			if err != nil || !yield(data, info.Length) { // the rest is still to be written
				return
			}
		}
	}
}

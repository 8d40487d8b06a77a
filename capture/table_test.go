package capture

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"promflow/capture/subnets"
)

func addr4(n int) netip.Addr {
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, uint32(10<<24+n))))
}

// fill adds the number i+1 to the received bytes of the ith address.
func fill(t *Table, n int, addr func(int) netip.Addr) {
	t.lock()
	defer t.mu.Unlock()
	for i := range n {
		a := addr(i)
		t.totals(a, subnets.NumberOf(a), 0).ReceiveBytes += int64(i + 1)
	}
}

func TestTableKeepsWhatFitsAndAddsUpTheRest(t *testing.T) {
	for _, limit := range []int{1, 2, 3, 255, 256, 257, 1000, 5000} {
		table := NewTable(limit, 0)
		if table.Limit() != limit {
			t.Errorf("limit %d is said to be %d", limit, table.Limit())
		}
		for _, n := range []int{limit - 1, limit, limit + 1, 2*limit + 10} {
			before := sum(table.Snapshot().Hosts).ReceiveBytes
			fill(table, n, addr4)
			hosts := table.Snapshot().Hosts
			if want := int64(n*(n+1)) / 2; sum(hosts).ReceiveBytes-before != want {
				t.Errorf("limit %d, %d addresses: %d bytes more, want %d", limit, n, sum(hosts).ReceiveBytes-before, want)
			}
			want := min(n, limit)
			if n > limit {
				want++
				if last := hosts[len(hosts)-1]; last.Addr.IsValid() || last.ReceiveBytes == 0 {
					t.Errorf("limit %d, %d addresses: the last is %v", limit, n, last)
				}
			}
			if len(hosts) != want {
				t.Errorf("limit %d, %d addresses: %d in the snapshot, want %d", limit, n, len(hosts), want)
			}
		}
	}
}

func TestTableFindsEveryAddressAgain(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	addrs := make([]netip.Addr, 70_000)
	for i := range addrs {
		b := [16]byte{0: 0x20, 1: 1}
		binary.BigEndian.PutUint32(b[12:], uint32(i)) // all different
		binary.BigEndian.PutUint64(b[4:], random.Uint64())
		if addrs[i] = netip.AddrFrom16(b); i%2 == 0 {
			addrs[i] = addr4(i)
		}
	}
	addr := func(i int) netip.Addr { return addrs[i] }
	for _, n := range []int{0, 1, 2, 255, 256, 257, 511, 512, 513, 1024, 1025, 4097, 65_536, 70_000} {
		table := NewTable(len(addrs), 0)
		fill(table, n, addr)
		fill(table, n, addr)
		hosts := table.Snapshot().Hosts
		if len(hosts) != n {
			t.Fatalf("%d addresses became %d", n, len(hosts))
		}
		if len(table.index) < 2*n {
			t.Errorf("%d addresses share an index of %d places", n, len(table.index))
		}
		for i, h := range hosts {
			if h.Addr != addrs[i] || h.Totals != (Totals{ReceiveBytes: 2 * int64(i+1)}) {
				t.Fatalf("%d addresses: place %d has %v, want %v with %d", n, i, h, addrs[i], 2*(i+1))
			}
		}
	}
}

func TestTableTellsMappedAddressesFromIPv4(t *testing.T) {
	table := NewTable(10, 0)
	v4, v6 := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("::ffff:10.0.0.1")
	table.totals(v4, subnets.NumberOf(v4), 0).ReceiveBytes += 1
	table.totals(v6, subnets.NumberOf(v6), 0).ReceiveBytes += 2
	hosts := table.Snapshot().Hosts
	if len(hosts) != 2 || hosts[0].Addr != v4 || hosts[0].ReceiveBytes != 1 || hosts[1].Addr != v6 || hosts[1].ReceiveBytes != 2 {
		t.Error("got", hosts)
	}
}

func TestSnapshotIsACopy(t *testing.T) {
	table := NewTable(2, 0)
	fill(table, 3, addr4)
	hosts := table.Snapshot().Hosts
	fill(table, 3, addr4)
	if len(hosts) != 3 || hosts[0].ReceiveBytes != 1 || hosts[2].ReceiveBytes != 3 {
		t.Error("a later packet changed a snapshot:", hosts)
	}
}

// The sets of addresses that networks have must spread over the index as random ones do: at half load, linear probing then
// looks at 1.5 places on average (Knuth, The Art of Computer Programming, volume 3, section 6.4).
func TestAddressesSpreadOverTheIndex(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	v6 := func(hi, lo uint64) netip.Addr {
		return netip.AddrFrom16([16]byte(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, hi), lo)))
	}
	const subnet = 0x20010db8_00000000
	for _, c := range []struct {
		name string
		n    int
		addr func(int) netip.Addr
	}{
		{"an IPv4 /16", 1 << 16, addr4},
		{"the first address of every /24", 1 << 14, func(i int) netip.Addr { return addr4(i << 8) }},
		{"IPv6, counting up", 1 << 14, func(i int) netip.Addr { return v6(subnet, uint64(i)) }},
		{"IPv6, counting subnets up", 1 << 14, func(i int) netip.Addr { return v6(subnet+uint64(i), 1) }},
		{"IPv6, subnet and host the same", 1 << 14, func(i int) netip.Addr { return v6(subnet+uint64(i), uint64(i)) }},
		{"IPv6, random hosts", 1 << 16, func(int) netip.Addr { return v6(subnet, random.Uint64()) }},
		{"IPv6, hosts after their MAC addresses", 1 << 14, func(i int) netip.Addr { return v6(subnet, 0x020000fffe000000+uint64(i)) }},
		{"IPv6, only the upper bits of hosts differ", 1 << 14, func(i int) netip.Addr { return v6(subnet, uint64(i)<<48) }},
		{"IPv6, only the upper bits differ", 1 << 14, func(i int) netip.Addr { return v6(uint64(i)<<48, 0) }},
		{"mapped IPv4", 1 << 14, func(i int) netip.Addr { return netip.AddrFrom16(addr4(i).As16()) }},
	} {
		table := NewTable(c.n, 0)
		fill(table, c.n, c.addr)
		mask := uint64(len(table.index) - 1)
		total, longest := uint64(0), uint64(0)
		for at, slot := range table.index {
			if slot != 0 {
				home := table.hash(subnets.NumberOf(table.hosts[uint32(slot)-1].Addr)) & mask
				away := (uint64(at) - home) & mask
				total, longest = total+away, max(longest, away)
			}
		}
		looks := 1 + float64(total)/float64(len(table.hosts))
		if load := float64(len(table.hosts)) / float64(len(table.index)); load > 0.5 || looks > 1.6 || longest > 100 {
			t.Errorf("%s: load %.2f, %.2f places looked at on average, %d at most", c.name, load, looks, longest+1)
		}
	}
}

func TestTablesHashDifferently(t *testing.T) {
	a, b := NewTable(1, 0), NewTable(1, 0)
	if n := subnets.NumberOf(addr4(1)); a.hash(n) == b.hash(n) {
		t.Error("two tables have the same seed", a.seed)
	}
}

func BenchmarkSnapshot(b *testing.B) {
	for _, hosts := range []int{254, DefaultLimit} {
		b.Run(fmt.Sprintf("hosts=%d", hosts), func(b *testing.B) {
			table := NewTable(hosts, 0)
			fill(table, hosts, addr4)
			var snapshot Snapshot
			b.ReportAllocs()
			for b.Loop() {
				snapshot = table.Snapshot()
			}
			if len(snapshot.Hosts) != hosts {
				b.Fatal(len(snapshot.Hosts))
			}
		})
	}
}

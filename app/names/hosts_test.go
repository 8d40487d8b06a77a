package names

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
)

var hostsCases = []parserCase{
	{"nothing", "", nil},
	{"names", "127.0.0.1 localhost\n192.168.1.1\trouter.lan  router # the box\n", []string{"127.0.0.1|localhost||0", "192.168.1.1|router.lan||0"}},
	{"the first line of an address counts", "::1 ip6-localhost\n::1 other\n", []string{"::1|ip6-localhost||0"}},
	{"without an end", "10.0.0.1 a", []string{"10.0.0.1|a||0"}},
	{"CRLF", "10.0.0.1 a\r\n10.0.0.2 b\r\n", []string{"10.0.0.1|a||0", "10.0.0.2|b||0"}},
	{"mapped", "::ffff:10.0.0.1 a\n", []string{"10.0.0.1|a||0"}},
	{"what is none", "10.0.0.1\n# 10.0.0.2 b\n10.0.0.300 c\nfe80::1%lo d\nname 10.0.0.4\n10.0.0.5 \x01\n", nil},
	{"that of odhcpd", "# br-lan 0001 1 laptop 1700000000 1 128 fd00::1/128\nfd00::1\tlaptop.lan laptop\n", []string{"fd00::1|laptop.lan||0"}},
}

func TestParseHosts(t *testing.T) { checkParser(t, parseHosts, hostsCases) }

func FuzzParseHosts(f *testing.F) { fuzzParser(f, parseHosts, hostsCases) }

// TestHostsHaveBounds has more addresses than anybody wants: they are read, but none of them is remembered for it.
func TestHostsHaveBounds(t *testing.T) {
	const addresses = 100_000
	var many strings.Builder
	for i := range addresses {
		fmt.Fprintf(&many, "10.%d.%d.%d a\n", i>>16, i>>8&0xff, i&0xff)
	}
	content := []byte(many.String())
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	gather(parseHosts(content), 10)
	runtime.ReadMemStats(&after)
	if each := (after.TotalAlloc - before.TotalAlloc) / addresses; each > 100 { // garbage: the fields of a line
		t.Errorf("%d bytes of memory for each address", each)
	}
}

package names

import "testing"

const dhcpdLease = `lease 192.168.1.133 {
  starts 2 2023/11/14 21:13:20;
  ends 2 2023/11/14 22:13:20;
  cltt 2 2023/11/14 21:13:20;
  binding state active;
  next binding state free;
  rewind binding state free;
  hardware ethernet 02:00:00:00:00:01;
  uid "\001\002\000{\";\000\000\001";
  set vendor-class-identifier = "MSFT 5.0";
  client-hostname "laptop";
  on expiry or release { set x = "}"; binding state free; }
}
`

var dhcpdCases = []parserCase{
	{"nothing", "", nil},
	{"a lease", "# The format of this file is documented in the dhcpd.leases(5) manual page.\nauthoring-byte-order little-endian;\n\n" + dhcpdLease,
		[]string{"192.168.1.133|laptop|02:00:00:00:00:01|2023-11-14 22:13:20"}},
	{"the last declaration counts", dhcpdLease + "lease 192.168.1.133 { ends never; binding state active; client-hostname \"new\"; }", []string{"192.168.1.133|new||0"}},
	{"free", dhcpdLease + "lease 192.168.1.133 { binding state free; hardware ethernet 02:00:00:00:00:01; }", nil},
	{"abandoned", dhcpdLease + "lease 192.168.1.133 { abandoned; ends never; }", nil},
	{"epoch", "lease 10.0.0.1 { ends epoch 1700000000; # Tue Nov 14 22:13:20 2023\n binding state active; client-hostname \"a\"; }",
		[]string{"10.0.0.1|a||2023-11-14 22:13:20"}},
	{"of old versions, without a state", "lease 10.0.0.1 { ends never; hardware ethernet 2:0:0:0:0:1; }", []string{"10.0.0.1||02:00:00:00:00:01|0"}},
	{"a string with escapes", `lease 10.0.0.1 { client-hostname "B\303\274ro\040\"1\""; }`, []string{`10.0.0.1|Büro "1"||0`}},
	{"not Ethernet", "lease 10.0.0.1 { hardware token-ring 02:00:00:00:00:01; client-hostname \"a\"; }", []string{"10.0.0.1|a||0"}},
	{"other declarations", "failover peer \"x\" state { my state normal at 1 2023/11/14 22:13:20; }\nhost a { dynamic; hardware ethernet 02:00:00:00:00:01; }\n" +
		"ia-na \"\\001\" { cltt 2 2023/11/14 22:13:20; iaaddr fd00::1 { binding state active; ends never; } }\nlease 10.0.0.1 { client-hostname \"a\"; }", []string{"10.0.0.1|a||0"}},
	{"a declaration that is being written", dhcpdLease + "lease 192.168.1.133 {\n  ends never;\n  client-hos", []string{"192.168.1.133|laptop|02:00:00:00:00:01|2023-11-14 22:13:20"}},
	{"a time that is none", dhcpdLease + "lease 192.168.1.133 { ends 2 2023/11/14; client-hostname \"a\"; }", nil},
	{"what is none", "lease name { client-hostname \"a\"; }\nlease { client-hostname \"a\"; }\n}}}; ;{;};\"", nil},
}

func TestParseDhcpd(t *testing.T) { checkParser(t, parseDhcpd, dhcpdCases) }

func FuzzParseDhcpd(f *testing.F) { fuzzParser(f, parseDhcpd, dhcpdCases) }

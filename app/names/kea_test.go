package names

import "testing"

// As Kea 2.6 has them.
const (
	keaHeader4 = "address,hwaddr,client_id,valid_lifetime,expire,subnet_id,fqdn_fwd,fqdn_rev,hostname,state,user_context,pool_id"
	keaHeader6 = "address,duid,valid_lifetime,expire,subnet_id,pref_lifetime,lease_type,iaid,prefix_len,fqdn_fwd,fqdn_rev,hostname,hwaddr,state," +
		"user_context,hwtype,hwaddr_source,pool_id"
)

var keaCases = []parserCase{
	{"nothing", "", nil},
	{"no lease yet", keaHeader4 + "\n", nil},
	{"IPv4", keaHeader4 + "\n192.168.1.133,02:00:00:00:00:01,01:02:00:00:00:00:01,3600,1700000000,1,0,0,laptop.lan.,0,,0\n",
		[]string{"192.168.1.133|laptop.lan|02:00:00:00:00:01|2023-11-14 22:13:20"}},
	{"the last line of an address counts", keaHeader4 + "\n192.168.1.133,02:00:00:00:00:01,,3600,1700000000,1,0,0,old,0,,0\n" +
		"192.168.1.133,02:00:00:00:00:02,,3600,1700000060,1,0,0,new,0,,0\n", []string{"192.168.1.133|new|02:00:00:00:00:02|2023-11-14 22:14:20"}},
	{"removed, declined, reclaimed, released", keaHeader4 + "\n" +
		"10.0.0.1,02:00:00:00:00:01,,3600,1700000000,1,0,0,a,0,,0\n10.0.0.1,02:00:00:00:00:01,,0,1700000000,1,0,0,a,0,,0\n" +
		"10.0.0.2,02:00:00:00:00:01,,3600,1700000000,1,0,0,a,1,,0\n10.0.0.3,02:00:00:00:00:01,,3600,1700000000,1,0,0,a,2,,0\n" +
		"10.0.0.4,02:00:00:00:00:01,,3600,1700000000,1,0,0,a,3,,0\n", nil},
	{"for ever", keaHeader4 + "\n10.0.0.1,02:00:00:00:00:01,,4294967295,1700000000,1,0,0,a,0,,0\n", []string{"10.0.0.1|a|02:00:00:00:00:01|0"}},
	{"IPv6, of which a prefix is no address", keaHeader6 + "\nfd00::1,00:01,3600,1700000000,1,1800,0,7,128,0,0,laptop,02:00:00:00:00:01,0,,1,0,0\n" +
		"fd00:1::,00:01,3600,1700000000,1,1800,2,7,56,0,0,router,02:00:00:00:00:02,0,,1,0,0\n", []string{"fd00::1|laptop|02:00:00:00:00:01|2023-11-14 22:13:20"}},
	{"columns of an old version, in another order", "valid_lifetime,address,hostname,expire\n3600,10.0.0.1,a,1700000000\n", []string{"10.0.0.1|a||2023-11-14 22:13:20"}},
	{"escaped", keaHeader4 + "\n10.0.0.1,,,3600,1700000000,1,0,0,a&#x2cb&#x,0,{ \"x\": 1&#x2c \"y\": 2 },0\n", []string{"10.0.0.1|a,b&#x||2023-11-14 22:13:20"}},
	{"a line that is being written", keaHeader4 + "\n10.0.0.1,,,3600,1700000000,1,0,0,a,0,,0\n10.0.0.1,,,3600,17000", []string{"10.0.0.1|a||2023-11-14 22:13:20"}},
	{"what is none", keaHeader4 + "\nx,,,3600,1700000000,1,0,0,a,0,,0\n10.0.0.1,,,x,1700000000,1,0,0,a,0,,0\n10.0.0.1\n\n", nil},
}

func TestParseKea(t *testing.T) { checkParser(t, parseKea, keaCases) }

func FuzzParseKea(f *testing.F) { fuzzParser(f, parseKea, keaCases) }

package names

import "testing"

const networkdLeases = `{"BootID":"d7f5041316de4f1f992a8a2822218a71","Address":[192,168,1,1],"PrefixLength":24,"Leases":[` +
	`{"ClientId":[1,2,0,0,0,0,1],"Address":[192,168,1,133],"Hostname":"laptop","HardwareAddressType":1,"HardwareAddressLength":6,` +
	`"HardwareAddress":[2,0,0,0,0,1,0,0,0,0,0,0,0,0,0,0],"ExpirationUSec":72338380895,"ExpirationRealtimeUSec":1700000000000000}]}` + "\n"

// networkdHardware is how systemd 257 writes a MAC in a lease.
const networkdHardware = `"HardwareAddressType":1,"HardwareAddressLength":6,"HardwareAddress":[2,0,0,0,0,1,0,0,0,0,0,0,0,0,0,0],`

func networkdOf(leases string) string {
	return `{"BootID":"d7f5041316de4f1f992a8a2822218a71","Address":[192,168,1,1],"PrefixLength":24,"Leases":[` + leases + "]}\n"
}

var networkdCases = []parserCase{
	{"nothing", "", nil},
	{"no lease", networkdOf(""), nil},
	{"of systemd 257", networkdLeases, []string{"192.168.1.133|laptop|02:00:00:00:00:01|2023-11-14 22:13:20"}},
	{"without a hardware address", networkdOf(`{"ClientId":[1,2,0,0,0,0,1],"Address":[10,0,0,1],"Hostname":"a","ExpirationRealtimeUSec":1700000000000000}`),
		[]string{"10.0.0.1|a|02:00:00:00:00:01|2023-11-14 22:13:20"}},
	{"a wrong length", networkdOf(`{"Address":[10,0,0,1],"Hostname":"a","HardwareAddressType":1,"HardwareAddressLength":7,"HardwareAddress":[2,0,0,0,0,1]}`),
		[]string{"10.0.0.1|a||0"}},
	{"a hardware address that is not filled up", networkdOf(`{"ClientId":[255,1,2,3,4,0,2],"AddressString":"10.0.0.1","Address":[10,0,0,1],"Hostname":"a","HardwareAddressType":1,` +
		`"HardwareAddressLength":6,"HardwareAddress":[2,0,0,0,0,1],"ExpirationRealtimeUSec":1700000000000000}`), []string{"10.0.0.1|a|02:00:00:00:00:01|2023-11-14 22:13:20"}},
	{"several of systemd 257", networkdOf(`{"ClientId":[0,102,111,111],"Address":[10,0,0,50],"Hostname":"Phone.example.org",` + networkdHardware +
		`"ExpirationUSec":18446744073709551615,"ExpirationRealtimeUSec":18446744073709551615},` +
		`{"ClientId":[1,2,0,0,0,0,1],"Address":[10,0,0,51],` + networkdHardware + `"ExpirationUSec":18446744073709551615,"ExpirationRealtimeUSec":18446744073709551615},` +
		`{"ClientId":[255,1,2,3,4,0,2,0,0,18,52],"Address":[10,0,0,52],"Hostname":"a",` + networkdHardware +
		`"ExpirationUSec":100000358844063,"ExpirationRealtimeUSec":1700000000000001}`), []string{
		"10.0.0.50|Phone.example.org|02:00:00:00:00:01|0", "10.0.0.51||02:00:00:00:00:01|0", "10.0.0.52|a|02:00:00:00:00:01|2023-11-14 22:13:20",
	}},
	{"not Ethernet", networkdOf(`{"ClientId":[1,2,0,0,0,0,1],"Address":[10,0,0,1],"Hostname":"ib0","HardwareAddressType":32,"HardwareAddress":[2,0,0,0,0,1],` +
		`"ExpirationRealtimeUSec":1700000000000000}`), []string{"10.0.0.1|ib0||2023-11-14 22:13:20"}},
	{"a client ID that is no MAC", networkdOf(`{"ClientId":[255,2,0,0,0,0,1],"Address":[10,0,0,1],"Hostname":"a","ExpirationRealtimeUSec":1700000000000000}`),
		[]string{"10.0.0.1|a||2023-11-14 22:13:20"}},
	{"without an end in it", networkdOf(`{"ClientId":[1,2,0,0,0,0,1],"Address":[10,0,0,1],"Hostname":"a"}`), []string{"10.0.0.1|a|02:00:00:00:00:01|0"}},
	{"some that are none", networkdOf(`7,{"Address":[10,0,0],"Hostname":"a"},{"Address":[10,0,0,300],"Hostname":"b"},{"Address":[10,0,0,1],"Hostname":"c",` +
		`"ExpirationRealtimeUSec":1700000000000000},{"Hostname":"d"}`), []string{"10.0.0.1|c||2023-11-14 22:13:20"}},
	{"a name that cannot be shown", networkdOf(`{"Address":[10,0,0,1],"Hostname":"a\u001b[31m","ClientId":[1,2,0,0,0,0,1],"ExpirationRealtimeUSec":1700000000000000}`),
		[]string{"10.0.0.1||02:00:00:00:00:01|2023-11-14 22:13:20"}},
	{"cut off", networkdLeases[:len(networkdLeases)-5], nil},
}

func TestParseNetworkd(t *testing.T) { checkParser(t, parseNetworkd, networkdCases) }

func FuzzParseNetworkd(f *testing.F) { fuzzParser(f, parseNetworkd, networkdCases) }

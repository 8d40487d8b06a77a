package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"promflow/.ci/watched"
	"promflow/capture/nettest"
)

// newFlowCollector makes promflow with a --capture of flows.
func newFlowCollector(t nettest.TB, name string, o options) *tool {
	protocol := strings.TrimPrefix(name, "promflow-")
	tool := newPromflow(t, name, o, fmt.Sprintf("--%s-address=%s:%d", protocol, collectorAddress, exporters[protocol].port))
	tool.protocol = protocol
	tool.queue = 4 << 20 // root may have any
	tool.totals = func(t nettest.TB, p *watched.Process, all *totals) int64 {
		page := metricsPage(t, p)
		for line := range strings.Lines(page) {
			name, rest, _ := strings.Cut(strings.TrimSpace(line), `{ip="`)
			addr, value, _ := strings.Cut(rest, `"} `)
			of := map[string]*[flowHosts]int64{"promflow_transmit_bytes_total": &all.sent, "promflow_receive_bytes_total": &all.received}[name]
			if of != nil {
				bytes, err := strconv.ParseFloat(value, 64) // exact up to 2^53
				nettest.Check(t, err)
				add(t, of, addr, int64(bytes))
			}
		}
		return sumOf(t, page, `promflow_capture_packets_total{interface="`+exporterAddress+`",outcome="counted"}`)
	}
	return tool
}

// add adds bytes to those of a host.
func add(t nettest.TB, to *[flowHosts]int64, host string, bytes int64) {
	addr, err := netip.ParseAddr(host)
	nettest.Check(t, err)
	to[be.Uint16(addr.AsSlice()[2:])] += bytes
}

// pmacct hands its plugins a buffer of records when it is full, by a queue in memory. It loses what the queue has no room for, and with more
// than some hundred buffers in the queue it loses any.
const (
	pmacctQueue  = 64 << 20 // bytes
	pmacctBuffer = 1 << 20
)

// newAccountant makes nfacctd or sfacctd. A plugin counts by the source address, and one by the destination address: those that print at the
// end, since those that keep a table for a client take several times as long for tens of thousands of addresses.
// sfacctd counts whole frames.
func newAccountant(t nettest.TB, name, protocol, dir string) *tool {
	overhead := int64(0) // bytes of a packet beside those of the network layer
	if protocol == "sflow" {
		overhead = etherLen + fcsLen
	}
	config, sent, received := filepath.Join(dir, name+".conf"), filepath.Join(dir, name+".sent"), filepath.Join(dir, name+".received")
	text := fmt.Sprintf(`daemonize: false
%[1]s_ip: %[2]s
%[1]s_port: %[3]d
%[1]s_pipe_size: %[4]d
plugins: print[sent], print[received]
aggregate[sent]: src_host
aggregate[received]: dst_host
print_output: csv
print_output_file[sent]: %[5]s
print_output_file[received]: %[6]s
print_refresh_time: 86400
print_cache_entries: %[7]d
plugin_pipe_size: %[8]d
plugin_buffer_size: %[9]d
`, name, collectorAddress, exporters[protocol].port, 4<<20, sent, received, flowHosts+1, pmacctQueue, pmacctBuffer)
	nettest.Check(t, os.WriteFile(config, []byte(text), 0o600))
	printed := regexp.MustCompile(`(?s)Purging cache - END.*Purging cache - END`) // by both plugins
	return &tool{
		name:     name,
		protocol: protocol,
		queue:    128 << 10, // what net.core.rmem_max allows anywhere
		command:  []string{name, "-f", config},
		debian:   "pmacct",
		ask:      "-V",
		version:  anyVersion,
		ready: func(p *watched.Process) error {
			if strings.Count(p.Output(), "cache entries=") < 2 {
				return errors.New("its plugins do not run")
			}
			return nil
		},
		totals: func(t nettest.TB, p *watched.Process, all *totals) (packets int64) {
			p.Ask(syscall.SIGINT, printed)
			read := func(file string, to *[flowHosts]int64) (packets int64) {
				text, err := os.ReadFile(file)
				nettest.Check(t, err)
				lines, err := pmacctTable(text)
				nettest.Check(t, err)
				for _, line := range lines {
					packets += number(t, line[1])
					add(t, to, line[0], number(t, line[2])-overhead*number(t, line[1]))
				}
				return packets
			}
			return min(read(sent, &all.sent), read(received, &all.received))
		},
	}
}

package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"promflow/.ci/watched"
	"promflow/capture/nettest"
)

// tool is something that watches the nettest.Receiving end of the link: a program, or a floor, or nothing at all.
type tool struct {
	name  string
	floor floor // attaches to the interface instead of a program

	command  []string                                  // the program; the rest is empty without it
	programs []string                                  // further ones that are needed
	debian   string                                    // the package that has all of them
	version  *regexp.Regexp                            // what to show of what it prints when asked for its version
	ask      string                                    // the argument that asks for it
	ready    func(*watched.Process) error              // is nil once it captures and answers
	counts   func(nettest.TB, *watched.Process) counts // asks it what it has counted so far

	// Of collectors of flows instead of counts.
	protocol string                                            // of exporters
	queue    int64                                             // bytes that may wait in its socket: that has room for twice as many
	totals   func(nettest.TB, *watched.Process, *totals) int64 // adds what it has counted so far, and returns the packets of that
}

// missing says which of the tool's programs is not installed, if any.
func (t *tool) missing() string {
	if t.command == nil {
		return ""
	}
	for _, program := range slices.Concat(t.command[:1], t.programs) {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Sprintf("%s was left out: the program %s is not installed (Debian: apt-get install %s)", t.name, program, t.debian)
		}
	}
	return ""
}

// shortVersion asks the tool for its version.
func (t *tool) shortVersion(tb nettest.TB) string {
	out, err := exec.CommandContext(tb.Context(), t.command[0], t.ask).CombinedOutput()
	if err != nil {
		tb.Fatal(fmt.Errorf("%s %s: %w: %s", t.command[0], t.ask, err, out))
	}
	m := t.version.FindSubmatch(out)
	if m == nil {
		tb.Fatalf("%s %s does not print a version: %s", t.command[0], t.ask, out)
	}
	return string(m[1])
}

// newTool makes the tool of that name, which may keep files in dir.
func newTool(t nettest.TB, name string, o options, dir string) *tool {
	switch name {
	case "none":
		return &tool{name: name}
	case "floor":
		return &tool{name: name, floor: attachSocket}
	case "floor-xdp-pass":
		return &tool{name: name, floor: attachXDP(xdpPass)}
	case "floor-xdp-drop":
		return &tool{name: name, floor: attachXDP(xdpDrop)}
	case "floor-tcx":
		return &tool{name: name, floor: attachTCX()}
	case "pmacctd":
		return newPmacctd(t, o.hosts, dir)
	case "darkstat":
		return newDarkstat(o.hosts)
	case "tcpdump":
		return newTcpdump()
	case "nfacctd":
		return newAccountant(t, name, "netflow", dir)
	case "sfacctd":
		return newAccountant(t, name, "sflow", dir)
	case "promflow-netflow", "promflow-sflow":
		return newFlowCollector(t, name, o)
	}
	return newPromflow(t, name, o, "--interface="+nettest.Receiving)
}

const promflowAddress = "127.0.0.1:9088"

func newPromflow(t nettest.TB, name string, o options, settings ...string) *tool {
	program, err := exec.LookPath(o.promflow)
	if err != nil {
		t.Fatal(fmt.Errorf("-promflow: %w", err))
	}
	backend, mirror := strings.CutSuffix(strings.TrimPrefix(name, "promflow-"), "-mirror")
	if mirror {
		settings = append(settings, "--mirror")
	}
	return &tool{
		name: name,
		command: append([]string{program, "--capture=" + backend,
			"--monitor-subnets=" + o.monitor, "--metrics-address=" + promflowAddress}, settings...),
		ask:     "--version",
		version: regexp.MustCompile(`version (.*)`),
		ready: func(p *watched.Process) error {
			_, err := p.Get("http://" + promflowAddress + "/-/ready")
			return err
		},
		counts: func(t nettest.TB, p *watched.Process) counts {
			page := metricsPage(t, p)
			return counts{
				packets: sumOf(t, page, `promflow_capture_packets_total{interface="`+nettest.Receiving+`",outcome="counted"}`),
				bytes:   sumOf(t, page, `promflow_transmit_bytes_total{`), // the flood has one source for each packet
				dropped: sumOf(t, page, `promflow_capture_dropped_packets_total{`),
			}
		},
	}
}

// metricsPage fetches promflow's.
func metricsPage(t nettest.TB, p *watched.Process) string {
	page, err := p.Get("http://" + promflowAddress + "/metrics")
	nettest.Check(t, err)
	return page
}

// sumOf adds up the samples of a metrics page that begin with a prefix.
func sumOf(t nettest.TB, page, prefix string) (sum int64) {
	for line := range strings.Lines(page) {
		if strings.HasPrefix(line, prefix) {
			value, err := strconv.ParseFloat(strings.TrimSpace(line[strings.LastIndexByte(line, ' ')+1:]), 64)
			nettest.Check(t, err)
			sum += int64(value) // exact up to 2^53
		}
	}
	return sum
}

// number is what a tool has written as one.
func number(t nettest.TB, text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	nettest.Check(t, err)
	return n
}

// newPmacctd counts by source address in memory. Its default queue would lose much more, and its default memory has room for
// few addresses. The buffer of 2 MiB between it and the kernel cannot be changed: pmacctd_pipe_size has no effect on that.
func newPmacctd(t nettest.TB, hosts int, dir string) *tool {
	config, pipe := filepath.Join(dir, "pmacctd.conf"), filepath.Join(dir, "pmacctd.pipe")
	const pool, entry = 1 << 20, 512 // bytes; an address in memory takes somewhat less
	text := fmt.Sprintf(`daemonize: false
pcap_interface: %s
plugins: memory
aggregate: src_host
plugin_pipe_size: %d
plugin_buffer_size: %d
imt_path: %s
imt_buckets: %d
imt_mem_pools_size: %d
imt_mem_pools_number: %d
`, nettest.Receiving, 100<<20, 1<<20, pipe, max(32771, min(hosts, 1<<20)|1), pool, 16+hosts/(pool/entry))
	nettest.Check(t, os.WriteFile(config, []byte(text), 0o600))
	table := func(ctx context.Context) ([]byte, error) {
		return exec.CommandContext(ctx, "pmacct", "-s", "-O", "csv", "-p", pipe).Output()
	}
	dropped := regexp.MustCompile(`received_packets=\d+ dropped_packets=(\d+)`)
	return &tool{
		name:     "pmacctd",
		command:  []string{"pmacctd", "-f", config},
		programs: []string{"pmacct"},
		debian:   "pmacct",
		ask:      "-V",
		version:  anyVersion,
		ready: func(p *watched.Process) error {
			_, err := table(t.Context())
			return errors.Join(err, p.Captures())
		},
		counts: func(t nettest.TB, p *watched.Process) (c counts) {
			text, err := table(t.Context())
			if err != nil {
				t.Fatal(fmt.Errorf("pmacct -s: %w", err))
			}
			lines, err := pmacctTable(text)
			nettest.Check(t, err)
			for _, line := range lines {
				c.packets += number(t, line[1])
				c.bytes += number(t, line[2])
			}
			c.dropped = number(t, p.Ask(syscall.SIGUSR1, dropped)[1])
			return c
		},
	}
}

// pmacctTable reads a table of pmacct: address, packets and bytes.
func pmacctTable(text []byte) ([][]string, error) {
	reader := csv.NewReader(bytes.NewReader(text))
	reader.FieldsPerRecord = 3 // SRC_IP,PACKETS,BYTES
	lines, err := reader.ReadAll()
	if err != nil {
		return nil, fmt.Errorf("pmacct's table: %w", err)
	}
	return lines[min(1, len(lines)):], nil // below the titles
}

// newDarkstat counts by both addresses; by default it would forget those that are too many.
func newDarkstat(hosts int) *tool {
	const url = "http://127.0.0.1:667/graphs.xml"
	totals := regexp.MustCompile(`<graphs tp="(\d+)" tb="(\d+)" pc="\d+" pd="(\d+)"`)
	return &tool{
		name: "darkstat",
		command: []string{"darkstat", "-i", nettest.Receiving, "--no-daemon", "--no-dns", "-b", "127.0.0.1", "-l", "10.0.0.0/255.0.0.0",
			"--hosts-max", strconv.Itoa(max(1000, hosts+2)), "--hosts-keep", strconv.Itoa(max(500, hosts+1))},
		debian:  "darkstat",
		ask:     "--version",
		version: anyVersion,
		ready: func(p *watched.Process) error {
			_, err := p.Get(url)
			return errors.Join(err, p.Captures())
		},
		counts: func(t nettest.TB, p *watched.Process) counts {
			page, err := p.Get(url)
			nettest.Check(t, err)
			m := totals.FindStringSubmatch(page)
			if m == nil {
				t.Fatalf("%s has no totals", url)
			}
			return counts{number(t, m[1]), number(t, m[2]), number(t, m[3])}
		},
	}
}

// newTcpdump writes packets away instead of counting by address.
func newTcpdump() *tool {
	totals := regexp.MustCompile(`(\d+) packets? captured, \d+ packets? received by filter, (\d+) packets? dropped by kernel.*\n`)
	return &tool{
		name:    "tcpdump",
		command: []string{"tcpdump", "-i", nettest.Receiving, "-s", "128", "-B", "8192", "-w", "/dev/null"},
		debian:  "tcpdump",
		ask:     "--version",
		version: anyVersion,
		ready: func(p *watched.Process) error {
			if !strings.Contains(p.Output(), "listening on") {
				return errors.New("it does not listen")
			}
			return nil
		},
		counts: func(t nettest.TB, p *watched.Process) counts {
			answer := p.Ask(syscall.SIGUSR1, totals)
			return counts{packets: number(t, answer[1]), bytes: -1, dropped: number(t, answer[2])}
		},
	}
}

var anyVersion = regexp.MustCompile(`(\d+\.\d\S*)`)

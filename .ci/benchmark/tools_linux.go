package main

import (
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

	"promflow/.ci/testbed"
)

// tool is something that watches the testbed.Receiving end of the link: a program, or a packet socket of the benchmark itself, or
// nothing at all.
type tool struct {
	name   string
	socket bool // watch with a packet socket that takes no packet

	command  []string                                                // the program; the rest is empty without it
	programs []string                                                // further ones that are needed
	debian   string                                                  // the package that has all of them
	version  *regexp.Regexp                                          // what to show of what it prints when asked for its version
	ask      string                                                  // the argument that asks for it
	ready    func(context.Context, *testbed.Process) error           // is nil once it captures and answers
	counts   func(context.Context, *testbed.Process) (counts, error) // asks it what it has counted so far
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
func (t *tool) shortVersion(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, t.command[0], t.ask).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", t.command[0], t.ask, err, out)
	}
	m := t.version.FindSubmatch(out)
	if m == nil {
		return "", fmt.Errorf("%s %s does not print a version: %s", t.command[0], t.ask, out)
	}
	return string(m[1]), nil
}

// newTool makes the tool of that name, which may keep files in dir.
func newTool(name string, o options, dir string) (*tool, error) {
	switch name {
	case "none":
		return &tool{name: name}, nil
	case "floor":
		return &tool{name: name, socket: true}, nil
	case "pmacctd":
		return newPmacctd(o.hosts, dir)
	case "darkstat":
		return newDarkstat(o.hosts), nil
	case "tcpdump":
		return newTcpdump(), nil
	}
	if backend, found := strings.CutPrefix(name, "promflow-"); found {
		return newPromflow(name, backend, o)
	}
	return nil, fmt.Errorf("unknown tool %q", name)
}

func newPromflow(name, backend string, o options) (*tool, error) {
	const address = "127.0.0.1:9088"
	program, err := exec.LookPath(o.promflow)
	if err != nil {
		return nil, fmt.Errorf("-promflow: %w", err)
	}
	return &tool{
		name:    name,
		command: []string{program, "--interface=" + testbed.Receiving, "--capture=" + backend, "--monitor-subnets=" + o.monitor, "--metrics-address=" + address},
		ask:     "--version",
		version: regexp.MustCompile(`version (.*)`),
		ready: func(ctx context.Context, p *testbed.Process) error {
			_, err := p.Page(ctx, "http://"+address+"/-/ready")
			return err
		},
		counts: func(ctx context.Context, p *testbed.Process) (counts, error) {
			page, err := p.Page(ctx, "http://"+address+"/metrics")
			if err != nil {
				return counts{}, err
			}
			var c counts
			for _, sum := range []struct {
				prefix string
				to     *int64
			}{
				{`promflow_capture_packets_total{interface="` + testbed.Receiving + `",outcome="counted"}`, &c.packets},
				{`promflow_transmit_bytes_total{`, &c.bytes}, // the flood has one source for each packet
				{`promflow_capture_dropped_packets_total{`, &c.dropped},
			} {
				if *sum.to, err = sumOf(page, sum.prefix); err != nil {
					return counts{}, err
				}
			}
			return c, nil
		},
	}, nil
}

// sumOf adds up the samples of a metrics page that begin with a prefix.
func sumOf(page, prefix string) (int64, error) {
	var sum int64
	for line := range strings.Lines(page) {
		if strings.HasPrefix(line, prefix) {
			value, err := strconv.ParseFloat(strings.TrimSpace(line[strings.LastIndexByte(line, ' ')+1:]), 64)
			if err != nil {
				return 0, fmt.Errorf("metrics page: %w", err)
			}
			sum += int64(value) // exact up to 2^53
		}
	}
	return sum, nil
}

// newPmacctd counts by source address in memory. Its default queue would lose much more, and its default memory has room for
// few addresses. The buffer of 2 MiB between it and the kernel cannot be changed: pmacctd_pipe_size has no effect on that.
func newPmacctd(hosts int, dir string) (*tool, error) {
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
`, testbed.Receiving, 100<<20, 1<<20, pipe, max(32771, min(hosts, 1<<20)|1), pool, 16+hosts/(pool/entry))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
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
		ready: func(ctx context.Context, p *testbed.Process) error {
			_, err := table(ctx)
			return errors.Join(err, p.Captures())
		},
		counts: func(ctx context.Context, p *testbed.Process) (counts, error) {
			text, err := table(ctx)
			if err != nil {
				return counts{}, fmt.Errorf("pmacct -s: %w", err)
			}
			c, err := sumOfPmacct(string(text))
			if err != nil {
				return counts{}, err
			}
			answer, err := p.Ask(ctx, syscall.SIGUSR1, dropped)
			if err != nil {
				return counts{}, err
			}
			c.dropped, err = strconv.ParseInt(answer[1], 10, 64)
			return c, err
		},
	}, nil
}

// sumOfPmacct adds up the lines SRC_IP,PACKETS,BYTES of pmacct.
func sumOfPmacct(text string) (counts, error) {
	var c counts
	lines, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if err != nil {
		return c, fmt.Errorf("pmacct's table: %w", err)
	}
	for i, line := range lines {
		if i == 0 {
			continue // the titles
		}
		if len(line) != 3 {
			return c, fmt.Errorf("pmacct's table: %q is not an address, packets and bytes", line)
		}
		packets, err1 := strconv.ParseInt(line[1], 10, 64)
		bytes, err2 := strconv.ParseInt(line[2], 10, 64)
		if err := errors.Join(err1, err2); err != nil {
			return c, fmt.Errorf("pmacct's table: %w", err)
		}
		c.packets += packets
		c.bytes += bytes
	}
	return c, nil
}

// newDarkstat counts by both addresses; by default it would forget those that are too many.
func newDarkstat(hosts int) *tool {
	const url = "http://127.0.0.1:667/graphs.xml"
	totals := regexp.MustCompile(`<graphs tp="(\d+)" tb="(\d+)" pc="\d+" pd="(\d+)"`)
	return &tool{
		name: "darkstat",
		command: []string{"darkstat", "-i", testbed.Receiving, "--no-daemon", "--no-dns", "-b", "127.0.0.1", "-l", "10.0.0.0/255.0.0.0",
			"--hosts-max", strconv.Itoa(max(1000, hosts+2)), "--hosts-keep", strconv.Itoa(max(500, hosts+1))},
		debian:  "darkstat",
		ask:     "--version",
		version: anyVersion,
		ready: func(ctx context.Context, p *testbed.Process) error {
			_, err := p.Page(ctx, url)
			return errors.Join(err, p.Captures())
		},
		counts: func(ctx context.Context, p *testbed.Process) (c counts, err error) {
			page, err := p.Page(ctx, url)
			if err != nil {
				return c, err
			}
			m := totals.FindStringSubmatch(page)
			if m == nil {
				return c, fmt.Errorf("%s has no totals", url)
			}
			for i, to := range []*int64{&c.packets, &c.bytes, &c.dropped} {
				if *to, err = strconv.ParseInt(m[1+i], 10, 64); err != nil {
					return c, fmt.Errorf("%s: %w", url, err)
				}
			}
			return c, nil
		},
	}
}

// newTcpdump writes packets away instead of counting by address.
func newTcpdump() *tool {
	totals := regexp.MustCompile(`(\d+) packets? captured, \d+ packets? received by filter, (\d+) packets? dropped by kernel.*\n`)
	return &tool{
		name:    "tcpdump",
		command: []string{"tcpdump", "-i", testbed.Receiving, "-s", "128", "-B", "8192", "-w", "/dev/null"},
		debian:  "tcpdump",
		ask:     "--version",
		version: anyVersion,
		ready: func(_ context.Context, p *testbed.Process) error {
			if !strings.Contains(p.Output(), "listening on") {
				return errors.New("it does not listen")
			}
			return nil
		},
		counts: func(ctx context.Context, p *testbed.Process) (counts, error) {
			answer, err := p.Ask(ctx, syscall.SIGUSR1, totals)
			if err != nil {
				return counts{}, err
			}
			packets, err1 := strconv.ParseInt(answer[1], 10, 64)
			dropped, err2 := strconv.ParseInt(answer[2], 10, 64)
			return counts{packets: packets, bytes: -1, dropped: dropped}, errors.Join(err1, err2)
		},
	}
}

var anyVersion = regexp.MustCompile(`(\d+\.\d\S*)`)

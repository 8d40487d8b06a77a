package e2e

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"promflow/app/live"
	"promflow/app/usage"
	"promflow/capture/nettest"
	"promflow/telemetry/otlp/otlptest"
)

var kills = flag.Int("kills", 8, "how often TestKilledWithHistory kills promflow")

// household is a home whose addresses, 192.168.0.1 to 192.168.0.N, talk with somebody outside.
type household struct {
	sender *nettest.Sender
	here   *nettest.Namespace
	frames [][]byte
	totals map[string]counts
}

func newHousehold(t *testing.T, hosts int) *household {
	t.Helper()
	here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
	here.Veth("here", there, "there")
	h := &household{sender: nettest.NewSender(t, there, "there"), here: here, totals: map[string]counts{}}
	outside := netip.MustParseAddr("203.0.113.1")
	for i := range hosts {
		ip := netip.AddrFrom4([4]byte{192, 168, byte((i + 1) >> 8), byte(i + 1)})
		h.frames = append(h.frames, nettest.UDP(ip, outside, 100+i%1000), nettest.UDP(outside, ip, 1000+i%400))
	}
	return h
}

// send sends one packet from and one to each address.
func (h *household) send() {
	h.sender.Send(h.frames...)
	for i := range len(h.frames) / 2 {
		ip := netip.AddrFrom4([4]byte{192, 168, byte((i + 1) >> 8), byte(i + 1)}).String()
		c := h.totals[ip]
		c.transmitBytes += int64(100 + i%1000)
		c.receiveBytes += int64(1000 + i%400)
		h.totals[ip] = c
	}
}

// serve starts a promflow that keeps history in dir.
func (h *household) serve(t *testing.T, dir string, args ...string) *program {
	t.Helper()
	return serve(t, h.here, append([]string{"--interface=here", "--monitor-subnets=lan=192.168.0.0/16", "--data-dir=" + dir}, args...)...)
}

// counted waits until a page has what was sent.
func (h *household) counted(t *testing.T, p *program) {
	t.Helper()
	eventually(t, func() error { return same(hosts(t, p.get("/metrics")), h.totals) })
}

// usage asks for a usage.
func (p *program) usage(query string) usage.Answer {
	p.t.Helper()
	var a usage.Answer
	if err := json.Unmarshal([]byte(p.get("/api/v1/usage?"+query)), &a); err != nil {
		p.t.Fatal(err)
	}
	return a
}

// conserves fails the test unless rows and steps of an answer have what was sent.
func (h *household) conserves(t *testing.T, a usage.Answer) {
	t.Helper()
	got := map[string]counts{}
	var steps, rows counts
	for _, r := range a.Rows {
		got[r.ID] = counts{receiveBytes: r.ReceiveBytes, transmitBytes: r.TransmitBytes}
		rows.receiveBytes += r.ReceiveBytes
		rows.transmitBytes += r.TransmitBytes
	}
	for _, s := range a.Steps {
		steps.receiveBytes += s.ReceiveBytes
		steps.transmitBytes += s.TransmitBytes
	}
	if err := same(got, h.totals); err != nil {
		t.Error(err)
	}
	if sums := (counts{receiveBytes: a.ReceiveBytes, transmitBytes: a.TransmitBytes}); sums != rows || sums != steps {
		t.Errorf("the answer has %+v, its rows %+v, its steps %+v", sums, rows, steps)
	}
}

// written waits until the history was written after an instant.
func (p *program) written(after time.Time) {
	p.t.Helper()
	eventually(p.t, func() error {
		if last := sample(p.t, p.get("/metrics"), "promflow_history_last_write_timestamp_seconds"); last <= float64(after.Unix()) {
			return fmt.Errorf("it was last written at %v", last)
		}
		return nil
	})
}

// TestTotalsOutliveTheProgram ends promflow and starts it again: pages, pushes and the history go on.
func TestTotalsOutliveTheProgram(t *testing.T) {
	t.Parallel()
	for _, backend := range live.Backends() {
		t.Run(backend, func(t *testing.T) {
			h, dir := newHousehold(t, 20), filepath.Join(t.TempDir(), "data")
			r, deltas := collector(t, h.here, "127.0.0.1:0"), collector(t, h.here, "127.0.0.1:0")
			deltas.ExpectDeltas()
			serve := func(to *otlptest.Receiver, temporality string) *program {
				return h.serve(t, dir, "--capture="+backend, "--otlp-endpoint="+to.Addr, "--otlp-interval=200ms", "--otlp-temporality="+temporality)
			}
			p := serve(r, "cumulative")
			h.send()
			h.counted(t, p)
			p.terminate()
			starts := r.Starts()

			p = serve(r, "cumulative")
			h.counted(t, p)
			h.send()
			h.counted(t, p)
			h.conserves(t, p.usage("period=today&by=ip"))
			p.terminate()
			now := r.Starts()
			for series, start := range starts {
				if strings.Contains(series, "_bytes ip=") && now[series] != start {
					t.Errorf("%s began at %d, and after a restart at %d", series, start, now[series])
				}
			}

			p = serve(deltas, "delta")
			h.send()
			h.counted(t, p)
			p.terminate()
			var pushed int64
			for series, v := range deltas.Values() {
				if strings.HasPrefix(series, "promflow_receive_bytes ip=192.168.0.1") && len(series) == len("promflow_receive_bytes ip=192.168.0.1") {
					pushed = v
				}
			}
			if pushed != 1000 {
				t.Errorf("192.168.0.1 received %d bytes by deltas, want 1000: what an earlier process had pushed came again, or too little", pushed)
			}
			info, err := os.Stat(filepath.Join(dir, "history.db"))
			if err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("the file has %v, %v", info.Mode(), err)
			}
			if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
				t.Errorf("the directory has %v, %v", info.Mode(), err)
			}
		})
	}
}

// TestKilledWithHistory kills promflow again and again under traffic. No total goes back below what a page had an interval before, and none
// goes back while a promflow runs. In the end the sums over periods are the totals.
func TestKilledWithHistory(t *testing.T) {
	t.Parallel()
	tables := map[string][]string{"room for all": nil, "full": {"--max-ips=40"}}
	for _, backend := range live.Backends() {
		for name, args := range tables {
			t.Run(backend+" "+name, func(t *testing.T) {
				t.Parallel()
				killWithHistory(t, max(*kills/len(live.Backends())/len(tables), 2), append([]string{"--capture=" + backend}, args...))
			})
		}
	}
}

func killWithHistory(t *testing.T, kills int, args []string) {
	const interval, slack = time.Second, 500 * time.Millisecond
	h, dir := newHousehold(t, 50), filepath.Join(t.TempDir(), "data")
	ctx, stop := context.WithCancel(t.Context())
	var sending sync.WaitGroup
	sending.Go(func() {
		for tick := time.NewTicker(10 * time.Millisecond); ctx.Err() == nil; <-tick.C {
			h.send()
		}
	})
	defer func() { stop(); sending.Wait() }()
	type page struct {
		at     time.Time
		totals map[string]counts
	}
	least := page{totals: map[string]counts{}} // what must not be lost
	shown := 0
	for round := range kills {
		p := h.serve(t, dir, append([]string{"--history-interval=" + interval.String()}, args...)...)
		pages := []page{least}
		for moment := time.Now().Add(time.Duration(rand.Int64N(int64(3 * time.Second)))); ; time.Sleep(50 * time.Millisecond) {
			now := page{time.Now(), hosts(t, p.get("/metrics"))}
			for ip, was := range pages[len(pages)-1].totals {
				if got := now.totals[ip]; got.receiveBytes < was.receiveBytes || got.transmitBytes < was.transmitBytes {
					t.Fatalf("round %d: %s had %+v, and has %+v now", round, ip, was, got)
				}
			}
			pages = append(pages, now)
			if time.Now().After(moment) {
				break
			}
		}
		p.cmd.Process.Kill()
		killed := time.Now()
		<-p.ended
		if log := p.log.String(); strings.Contains(log, "level=ERROR") {
			t.Fatalf("round %d: %s", round, log)
		}
		for _, each := range pages[1:] {
			if each.at.Before(killed.Add(-interval - slack)) {
				least = each
				shown++
			}
		}
	}
	stop()
	sending.Wait()
	if shown == 0 && kills > 10 {
		t.Error("no program ran for long enough: the test shows nothing")
	}
	p := h.serve(t, dir, args...)
	h.send()
	eventually(t, func() error { // the ring may have the last packets for a moment
		got, kept := hosts(t, p.get("/metrics")), map[string]counts{}
		for _, r := range p.usage("period=31d&by=ip").Rows {
			kept[r.ID] = counts{receiveBytes: r.ReceiveBytes, transmitBytes: r.TransmitBytes}
		}
		if len(got) < 41 {
			return fmt.Errorf("the page has %d addresses", len(got))
		}
		return same(kept, got)
	})
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
		t.Errorf("the directory has %v, %v: a file was put aside", files, err)
	}
}

// TestPrometheusAcrossARestart has a real Prometheus look at totals that go on: one that only takes totals, and two that take the times
// when they began, too.
func TestPrometheusAcrossARestart(t *testing.T) {
	t.Parallel()
	release := prometheus3(t)
	h, dir := newHousehold(t, 3), filepath.Join(t.TempDir(), "data")
	serve := func() *program {
		return serve(t, h.here, "--metrics-address=127.0.0.1:9088", "--interface=here", "--monitor-subnets=192.168.0.0/16", "--data-dir="+dir, "--history-interval=1s")
	}
	begin := time.Now()
	p := serve()
	const once = 1000 + 1001 + 1002
	servers := []struct {
		features string
		rounds   float64 // of which Prometheus knows
		prometheusServer
	}{
		{"", 4, prometheusServer{}}, // all after the first scrape
		{"created-timestamp-zero-ingestion", 5, prometheusServer{}},
		{"st-storage,use-start-timestamps", 5, prometheusServer{}},
	}
	for i := range servers {
		s := &servers[i]
		s.prometheusServer = release.serve(t, h.here, fmt.Sprint("127.0.0.1:", 9090+i), `
global: {scrape_interval: 200ms}
scrape_configs: [{job_name: promflow, static_configs: [{targets: ["127.0.0.1:9088"]}]}]
`, "--enable-feature="+s.features)
	}
	scraped := func(want float64) {
		t.Helper()
		for _, s := range servers {
			s.has(t, p, `sum(promflow_receive_bytes_total)`, want)
		}
	}
	h.send()
	scraped(once)
	for n := 1; n <= 4; n++ {
		switch n % 2 {
		case 0: // nothing is lost even so: all was written
			p.written(time.Now())
			p.cmd.Process.Kill()
			<-p.ended
		default:
			p.terminate()
		}
		p = serve()
		h.send()
		scraped(float64(once * (n + 1)))
	}
	seconds := int(time.Since(begin).Seconds()) + 1
	for _, s := range servers {
		resets := fmt.Sprintf(`sum(resets(promflow_receive_bytes_total[%ds]))`, seconds)
		if got := s.query(t, p, resets)[""]; got != 0 {
			t.Errorf("with %q, %s is %v, want 0", s.features, resets, got)
		}
		// increase extrapolates to the ends of its range, where there are no samples.
		increase := fmt.Sprintf(`sum(increase(promflow_receive_bytes_total[%ds]))`, seconds)
		if got := s.query(t, p, increase)[""]; got < (s.rounds-0.1)*once || got > (s.rounds+0.6)*once {
			t.Errorf("with %q, %s is %v, want %v or a little more", s.features, increase, got, s.rounds*once)
		}
	}
	grown := fmt.Sprintf(`sum(max_over_time(promflow_receive_bytes_total[%ds])) - sum(min_over_time(promflow_receive_bytes_total[%[1]ds]))`, seconds)
	if got := servers[0].query(t, p, grown)[""]; got != 4*once {
		t.Errorf("%s is %v, want %v", grown, got, 4*once)
	}
}

// TestHistoryOnADiskThatFails fills a disk, and makes it read-only: counting goes on, and so does the history once it can.
func TestHistoryOnADiskThatFails(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name         string
		busy         bool // it can happen while the file is open
		fail, repair func(t *testing.T, mount string)
	}{
		{"full", true, func(t *testing.T, mount string) {
			f, err := os.Create(filepath.Join(mount, "fill"))
			nettest.Check(t, err)
			defer f.Close()
			for block := make([]byte, 4096); err == nil; {
				_, err = f.Write(block)
			}
		}, func(t *testing.T, mount string) { nettest.Check(t, os.Remove(filepath.Join(mount, "fill"))) }},
		{"read-only", false,
			func(t *testing.T, mount string) { reconfigure(t, mount, "ro") },
			func(t *testing.T, mount string) { reconfigure(t, mount, "rw") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, mount := newHousehold(t, 300), t.TempDir()
			nettest.Check(t, syscall.Mount("promflow", mount, "tmpfs", 0, "mode=0755,size=4m"))
			t.Cleanup(func() { syscall.Unmount(mount, 0) })
			dir := filepath.Join(mount, "data")
			up := func(p *program) float64 { return sample(t, p.get("/metrics"), "promflow_history_up") }

			p := h.serve(t, dir, "--history-interval=1s")
			h.send()
			h.counted(t, p)
			p.written(time.Now())
			if c.busy { // while promflow runs
				c.fail(t, mount)
				eventually(t, func() error {
					h.send()
					if v := up(p); v != 0 {
						return fmt.Errorf("promflow_history_up is %v", v)
					}
					return nil
				})
				h.counted(t, p)
				time.Sleep(2500 * time.Millisecond)
				if n := strings.Count(p.log.String(), "level=ERROR"); n != 1 {
					t.Errorf("the log has %d errors, want one:\n%s", n, p.log)
				}
				p.terminate()
			} else {
				p.terminate()
				c.fail(t, mount)
			}

			// At the start: what was written last goes on.
			p = h.serve(t, dir, "--history-interval=1s")
			if n := strings.Count(p.log.String(), "level=ERROR"); !c.busy && n != 1 {
				t.Errorf("the log has %d errors, want one:\n%s", n, p.log)
			}
			if log := p.log.String(); strings.Contains(log, "history cannot be written") && strings.Contains(log, "history is kept") {
				t.Errorf("the log contradicts itself:\n%s", log)
			}
			before := hosts(t, p.get("/metrics"))
			h.totals = before
			if len(before) != 300 {
				t.Errorf("%d addresses go on", len(before))
			}
			h.send()
			h.counted(t, p)
			c.repair(t, mount)
			eventually(t, func() error {
				h.send()
				if v := up(p); v != 1 {
					return fmt.Errorf("promflow_history_up is %v", v)
				}
				return nil
			})
			h.counted(t, p)
			h.conserves(t, p.usage("period=today&by=ip"))
			p.terminate()
			p = h.serve(t, dir)
			h.counted(t, p)
			if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
				t.Errorf("the directory has %v, %v: a file was put aside", files, err)
			}
		})
	}
}

// TestHistoryOnADiskThatFailsAtTheStart has no directory, and no room for one: counting goes on.
func TestHistoryOnADiskThatFailsAtTheStart(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		flags   uintptr
		options string
	}{"full": {0, "nr_inodes=1"}, "read-only": {syscall.MS_RDONLY, ""}} {
		t.Run(name, func(t *testing.T) {
			h, mount := newHousehold(t, 3), t.TempDir()
			nettest.Check(t, syscall.Mount("promflow", mount, "tmpfs", c.flags, "mode=0755,"+c.options))
			t.Cleanup(func() { syscall.Unmount(mount, 0) })
			p := h.serve(t, filepath.Join(mount, "data"))
			h.send()
			h.counted(t, p)
			if log := p.log.String(); strings.Count(log, "level=ERROR") != 1 || !strings.Contains(log, "history cannot be written") || strings.Contains(log, "history is kept") {
				t.Errorf("the log has %s", log)
			}
			p.terminate()
		})
	}
}

// reconfigure sets a flag of a file system: mount(2) would set it of this namespace's mount only.
func reconfigure(t *testing.T, mount, flag string) {
	t.Helper()
	fd, err := unix.Fspick(unix.AT_FDCWD, mount, 0)
	nettest.Check(t, err)
	defer unix.Close(fd)
	nettest.Check(t, unix.FsconfigSetFlag(fd, flag))
	nettest.Check(t, unix.FsconfigReconfigure(fd))
}

// TestHistoryRefuses has what is wrong with a directory.
func TestHistoryRefuses(t *testing.T) {
	t.Parallel()
	h, dir := newHousehold(t, 3), filepath.Join(t.TempDir(), "data")
	p := h.serve(t, dir)
	h.send()
	h.counted(t, p)

	const used = "another promflow has it open"
	if line, _ := fails(t, inside(t, h.here, "--interface=here", "--metrics-address=127.0.0.1:0", "--data-dir="+dir)); !strings.Contains(line, used) {
		t.Error("a second promflow says", line)
	}
	if line, _ := fails(t, promflow(t, "usage", "--data-dir="+dir)); !strings.Contains(line, used+": ask it by its URL") {
		t.Error("usage says", line)
	}
	p.terminate()

	path := filepath.Join(dir, "history.db")
	content, err := os.ReadFile(path)
	nettest.Check(t, err)
	damaged := bytes.Clone(content)
	for i := range damaged[:4096*3] {
		damaged[i] ^= 0x55
	}
	nettest.Check(t, os.WriteFile(path, damaged, 0o600))
	p = h.serve(t, dir)
	if log := p.log.String(); strings.Count(log, "level=ERROR") != 1 || !strings.Contains(log, "was put aside") {
		t.Errorf("the log has %s", log)
	}
	if got := hosts(t, p.get("/metrics")); len(got) != 0 {
		t.Errorf("a damaged file gives %v", got)
	}
	aside, err := filepath.Glob(path + ".damaged-*")
	if err != nil || len(aside) != 1 {
		t.Fatalf("put aside are %v, %v", aside, err)
	}
	if kept, err := os.ReadFile(aside[0]); err != nil || !bytes.Equal(kept, damaged) {
		t.Errorf("what was put aside is not what was there: %v", err)
	}
	h.totals = map[string]counts{}
	h.send()
	h.counted(t, p)
	p.terminate()
	p = h.serve(t, dir)
	h.counted(t, p)
}

// ownerOf returns who owns a file; -1 if it does not exist.
func ownerOf(t *testing.T, path string) int {
	t.Helper()
	var stat unix.Stat_t
	if err := unix.Lstat(path, &stat); errors.Is(err, os.ErrNotExist) {
		return -1
	} else if err != nil {
		t.Fatal(err)
	}
	return int(stat.Uid)
}

// TestHistoryRefusesDirectories has directories in which there can be no history: the start fails and says what helps, and that helps.
func TestHistoryRefusesDirectories(t *testing.T) {
	t.Parallel()
	nettest.Need(t, "setpriv")
	ns, program := nettest.NewNamespace(t), copyForEveryone(t)
	mkdir := func(t *testing.T, path string, owner int, mode os.FileMode) {
		nettest.Check(t, os.MkdirAll(path, mode))
		nettest.Check(t, os.Chmod(path, mode))
		nettest.Check(t, os.Chown(path, owner, owner))
	}
	const root, user, runs = 0, 65532, "promflow runs as user 65532 and group 65532 (see --user), and may use it after "
	for _, c := range []struct {
		name  string
		user  int // who starts promflow
		make  func(t *testing.T, dir string)
		early bool // before anything is opened
		want  string
	}{
		{"a file", root, func(t *testing.T, dir string) { nettest.Check(t, os.WriteFile(dir, nil, 0o644)) }, true, "not a directory"},
		{"in a file", root, func(t *testing.T, dir string) { nettest.Check(t, os.WriteFile(filepath.Dir(dir)+"/in", nil, 0o644)) }, true, "not a directory"},
		{"a link to itself", root, func(t *testing.T, dir string) { nettest.Check(t, os.Symlink("data", dir)) }, true, "too many levels of symbolic links"},
		{"a link to nowhere", root, func(t *testing.T, dir string) { nettest.Check(t, os.Symlink("nowhere", dir)) }, false, "file exists"},
		{"another user's", root, func(t *testing.T, dir string) { mkdir(t, dir, 1000, 0o755) }, false,
			"DIR: permission denied: " + runs + "chown 65532:65532 DIR && chmod u+rwX DIR\n"},
		{"with other files", root, func(t *testing.T, dir string) {
			mkdir(t, dir, 0, 0o755)
			nettest.Check(t, os.WriteFile(dir+"/notes", nil, 0o600))
		}, false, "DIR: permission denied: promflow runs as user 65532 and group 65532 (see --user), and there are other files: name a directory of its own\n"},
		{"with another user's history", root, func(t *testing.T, dir string) {
			mkdir(t, dir, 1000, 0o755)
			nettest.Check(t, os.WriteFile(dir+"/history.db", nil, 0o600))
		}, false, "DIR and DIR/history.db: permission denied: " + runs + "chown 65532:65532 DIR DIR/history.db && chmod u+rwX DIR DIR/history.db\n"},
		{"its own with root's history", root, func(t *testing.T, dir string) {
			mkdir(t, dir, user, 0o700)
			nettest.Check(t, os.WriteFile(dir+"/history.db", nil, 0o600))
		}, false, "DIR/history.db: permission denied: " + runs + "chown 65532:65532 DIR/history.db && chmod u+rwX DIR/history.db\n"},
		{"with a link to elsewhere", root, func(t *testing.T, dir string) {
			mkdir(t, dir, user, 0o700)
			nettest.Check(t, os.Symlink("/etc/passwd", dir+"/history.db"))
		}, false, "DIR/history.db: path escapes from parent"},
		{"that nobody makes", user, func(t *testing.T, dir string) {}, false,
			"mkdir DIR: permission denied: " + runs + "mkdir -p DIR && chown 65532:65532 DIR && chmod u+rwX DIR\n"},
		{"that its user may not enter", user, func(t *testing.T, dir string) { mkdir(t, dir, 0, 0o700) }, false,
			"open DIR: permission denied: " + runs + "chown 65532:65532 DIR && chmod u+rwX DIR\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			parent := t.TempDir()
			nettest.Check(t, os.Chmod(filepath.Dir(parent), 0o755))
			mkdir(t, parent, 0, 0o755)
			dir := filepath.Join(parent, "data")
			c.make(t, dir)
			if c.name == "in a file" {
				dir = filepath.Join(parent, "in", "data")
			}
			before := ownerOf(t, parent+"/data")
			promflow := func(args ...string) *exec.Cmd {
				args = append([]string{program, "--interface=lo", "--data-dir=" + dir, "--metrics-address=127.0.0.1:0"}, args...)
				if c.user != root {
					args = append([]string{"setpriv", fmt.Sprint("--reuid=", c.user), fmt.Sprint("--regid=", c.user), "--clear-groups", "--inh-caps=+net_raw,+bpf", "--ambient-caps=+net_raw,+bpf"}, args...)
				}
				cmd := ns.Command(args...)
				cmd.Env = append(os.Environ(), beProgram+"=1")
				return cmd
			}
			var level []string
			if !c.early {
				level = append(level, "--log-level=error")
			}
			line, _ := fails(t, promflow(level...))
			if want := strings.ReplaceAll(c.want, "DIR", dir); !strings.HasPrefix(line, fmt.Sprintf("promflow: --data-dir %q: ", dir)) || !strings.Contains(line, want) {
				t.Errorf("said %q, want %q", line, want)
			}
			if after := ownerOf(t, parent+"/data"); after != before {
				t.Errorf("the directory was of user %d, and is of %d", before, after)
			}
			_, command, found := strings.Cut(strings.TrimSpace(line), "may use it after ")
			if !found {
				return
			}
			if out, err := exec.Command("sh", "-c", command).CombinedOutput(); err != nil {
				t.Fatalf("%s: %v: %s", command, err, out)
			}
			p := start(t, ns, promflow()).listening()
			p.terminate()
			if log := p.log.String(); !strings.Contains(log, `msg="history is kept"`) || strings.Contains(log, "cannot be written") {
				t.Errorf("after %s the log has %s", command, log)
			}
		})
	}
}

// TestHistoryRefusesToBeMadeTooEarly has starts fail for another reason: no directory is made then, and none becomes another user's.
func TestHistoryRefusesToBeMadeTooEarly(t *testing.T) {
	t.Parallel()
	ns := nettest.NewNamespace(t)
	p := serve(t, ns, "--interface=lo")
	for _, args := range [][]string{
		{"--metrics-address=" + p.address},
		{"--interface=nosuch0"},
		{"--web-config-file=nosuch.yml"},
		{"--otlp-endpoint=ftp://x"},
	} {
		parent := t.TempDir()
		nettest.Check(t, os.Mkdir(parent+"/there", 0o755))
		for name, want := range map[string]int{"new": -1, "there": 0} {
			line, _ := fails(t, inside(t, ns, slices.Concat([]string{"--interface=lo", "--log-level=error", "--data-dir=" + filepath.Join(parent, name)}, args)...))
			if got := ownerOf(t, filepath.Join(parent, name)); got != want || strings.Contains(line, "data-dir") {
				t.Errorf("%s: the directory %s is of user %d, want %d: %s", args, name, got, want, line)
			}
		}
	}
}

// TestHistoryFollowsNoLinkOfOthers has another user put a link to a directory of the system's where root is told to keep history.
func TestHistoryFollowsNoLinkOfOthers(t *testing.T) {
	t.Parallel()
	ns, dir := nettest.NewNamespace(t), t.TempDir()
	nettest.Check(t, os.Chmod(filepath.Dir(dir), 0o755))
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"system", "system/empty", "home"} {
		nettest.Check(t, os.Mkdir(at(name), 0o755))
	}
	nettest.Check(t, os.Symlink("../system/empty", at("home/link")))
	nettest.Check(t, os.Chown(at("home"), 1000, 1000))
	for _, path := range []string{"home/link", "home/link/new"} {
		line, _ := fails(t, inside(t, ns, "--interface=lo", "--log-level=error", "--metrics-address=127.0.0.1:0", "--data-dir="+at(path)))
		if got, made := ownerOf(t, at("system/empty")), ownerOf(t, at("system/empty/new")); got != 0 || made != -1 || !strings.Contains(line, "permission denied") {
			t.Errorf("%s: the system's directory is of user %d, one in it of %d: %s", path, got, made, line)
		}
	}
}

// TestPrivilegesAndHistory has root start promflow with more and less privileges, twice: the history goes on.
func TestPrivilegesAndHistory(t *testing.T) {
	t.Parallel()
	nettest.Need(t, "setpriv")
	ns, program := nettest.NewNamespace(t), copyForEveryone(t)
	for _, c := range []struct {
		name  string
		mode  os.FileMode // of the directory; 0: there is none
		by    []string
		args  []string
		owner int
	}{
		{"a new directory", 0, nil, nil, 65532},
		{"as mkdir makes it", 0o755, nil, nil, 65532},
		{"another user", 0o755, nil, []string{"--user=12345"}, 12345},
		{"root stays", 0o755, nil, []string{"--user=root"}, 0},
		{"root that cannot change", 0o755, []string{"setpriv", "--bounding-set=-setuid,-setgid"}, nil, 0},
		{"root that cannot change, and a new directory", 0, []string{"setpriv", "--bounding-set=-setuid,-setgid"}, nil, 0},
		{"root that may not do all", 0, []string{"setpriv", "--bounding-set=-dac_override,-dac_read_search"}, nil, 65532},
	} {
		t.Run(c.name, func(t *testing.T) {
			parent := t.TempDir()
			nettest.Check(t, os.Chmod(filepath.Dir(parent), 0o755))
			dir := filepath.Join(parent, "data")
			if c.mode != 0 {
				nettest.Check(t, os.Mkdir(dir, c.mode))
			}
			for range 2 {
				args := slices.Concat(c.by, []string{program, "--interface=lo", "--data-dir=" + dir, "--metrics-address=127.0.0.1:0"}, c.args)
				cmd := ns.Command(args...)
				cmd.Env = append(os.Environ(), beProgram+"=1")
				p := start(t, ns, cmd).listening()
				p.terminate()
				if log := p.log.String(); !strings.Contains(log, `msg="history is kept"`) || strings.Contains(log, "level=ERROR") {
					t.Errorf("the log has %s", log)
				}
				if d, f := ownerOf(t, dir), ownerOf(t, dir+"/history.db"); d != c.owner || f != c.owner {
					t.Errorf("the directory is of user %d, and the file of %d, want %d", d, f, c.owner)
				}
			}
		})
	}
}

// TestUsage asks for the usage in all forms.
func TestUsage(t *testing.T) {
	t.Parallel()
	h, dir := newHousehold(t, 30), filepath.Join(t.TempDir(), "data")
	p := h.serve(t, dir)
	h.send()
	h.counted(t, p)
	var received, transmitted int64
	for _, c := range h.totals {
		received += c.receiveBytes
		transmitted += c.transmitBytes
	}
	url := "http://" + p.address
	output := func(args ...string) string {
		t.Helper()
		var out, errs bytes.Buffer
		cmd := inside(t, h.here, append([]string{"usage"}, args...)...)
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err := runWithin(cmd); err != nil {
			t.Fatalf("%v: %s", err, &errs)
		}
		return out.String()
	}
	forms := func(from ...string) {
		t.Helper()
		var a usage.Answer
		if err := json.Unmarshal([]byte(output(append([]string{"--output=json", "--by=ip"}, from...)...)), &a); err != nil {
			t.Fatal(err)
		}
		h.conserves(t, a)
		records, err := csv.NewReader(strings.NewReader(output(append([]string{"--output=csv"}, from...)...))).ReadAll()
		if err != nil || len(records) != 31 {
			t.Fatalf("%d records, %v", len(records), err)
		}
		var sum int64
		for _, r := range records[1:] {
			n, err := strconv.ParseInt(r[5], 10, 64)
			nettest.Check(t, err)
			sum += n
		}
		if sum != received {
			t.Errorf("CSV has %d received bytes, want %d", sum, received)
		}
		text := output(append([]string{"--limit=2", "--sort=transmit"}, from...)...)
		lines := strings.Split(strings.TrimSpace(text), "\n")
		if len(lines) != 6 || !strings.HasPrefix(lines[2], "DEVICE") || !strings.HasPrefix(lines[3], "192.168.0.30 ") ||
			!strings.HasPrefix(lines[5], "TOTAL of 30, also those not shown ") {
			t.Errorf("it printed\n%s", text)
		}
	}
	forms(url)
	if text := output("--by=network", "--period=today", url); !strings.Contains(text, "\nlan ") {
		t.Errorf("networks are\n%s", text)
	}
	if text := output("--by=ip", "--of=192.168.0.7", "--output=csv", "--period=24h", url); strings.Count(text, "\n") != 2 {
		t.Errorf("one address is\n%s", text)
	}
	for _, period := range []string{"today", "week", "month", "24h", "31d", "12mo", time.Now().Format(time.DateOnly), time.Now().Format("2006-01"),
		time.Now().Add(-time.Hour).Format("2006-01-02T15:04") + ".."} {
		if a := p.usage("period=" + period + "&by=network"); a.ReceiveBytes != received || a.TransmitBytes != transmitted {
			t.Errorf("%s has %d and %d, want %d and %d", period, a.ReceiveBytes, a.TransmitBytes, received, transmitted)
		}
	}
	for _, period := range []string{"yesterday", "last-month", "2025-01-01..2025-02-01"} {
		if a := p.usage("period=" + period); a.ReceiveBytes != 0 || len(a.Rows) != 0 {
			t.Errorf("%s has %+v", period, a.Rows)
		}
	}
	if _, err := p.try("/api/v1/usage?period=tomorrow&by=mac"); err == nil || !strings.Contains(err.Error(), "400") {
		t.Errorf("wrong parameters give %v", err)
	}
	p.terminate()
	forms("--data-dir=" + dir)

	p = serve(t, h.here, "--interface=here")
	if line, _ := fails(t, inside(t, h.here, "usage", "http://"+p.address)); !strings.Contains(line, "start promflow with --data-dir=DIR") {
		t.Error("without a history usage says", line)
	}
	if line, _ := fails(t, promflow(t, "usage", "--data-dir="+t.TempDir())); !strings.Contains(line, "there is no history") {
		t.Error("without a file usage says", line)
	}
}

// TestUsageWarnsOfAZone has promflow keep and read a history in zones that there are and that there are not.
func TestUsageWarnsOfAZone(t *testing.T) {
	t.Parallel()
	h, dir := newHousehold(t, 1), filepath.Join(t.TempDir(), "data")
	for tz, unknown := range map[string]bool{
		"Nowhere/Bogus": true, ":Nowhere": true, "/nosuch/zone": true, "CET-1CEST,M3.5.0,M10.5.0/3": true,
		"": false, ":": false, "UTC": false, ":UTC": false, "Etc/UTC": false, ":Europe/Berlin": false, "Asia/Tokyo": false,
	} {
		text := fmt.Sprintf("TZ %q is no known time zone: days and months are those of UTC", tz)
		want := 0
		if unknown {
			want = 1
		}
		cmd := inside(t, h.here, "--metrics-address=127.0.0.1:0", "--interface=here", "--data-dir="+dir, "--log-format=json")
		cmd.Env = append(cmd.Env, "TZ="+tz)
		p := start(t, h.here, cmd).listening()
		p.terminate()
		quoted, err := json.Marshal(text)
		nettest.Check(t, err)
		if n := strings.Count(p.log.String(), string(quoted)); n != want {
			t.Errorf("with TZ=%s the log warns %d times, want %d: %s", tz, n, want, p.log)
		}
		var errs bytes.Buffer
		cmd = promflow(t, "usage", "--data-dir="+dir)
		cmd.Env, cmd.Stderr = append(cmd.Env, "TZ="+tz), &errs
		if err := runWithin(cmd); err != nil || errs.String() != strings.Repeat("promflow: warning: "+text+"\n", want) {
			t.Errorf("with TZ=%s usage ends with %v and says %q", tz, err, &errs)
		}
	}
}

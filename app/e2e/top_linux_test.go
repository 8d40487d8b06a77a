package e2e

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"promflow/app/live"
	"promflow/capture/nettest"
	"promflow/telemetry/talkers"
)

// mover is what one address moves, in bytes a second.
type mover struct {
	ip      string
	in, out int64
}

// movers are in the order of rates. Each is a whole number of packets a second.
var movers = []mover{{"10.1.0.10", 1_000_000, 0}, {"10.1.0.2", 0, 500_000}, {"10.1.0.30", 120_000, 120_000}}

// generator sends the movers.
type generator struct {
	begin time.Time
	sent  atomic.Int64 // bytes
}

// newGenerator sends from an interface of the namespace until the test ends.
func newGenerator(t *testing.T, ns *nettest.Namespace, device string) *generator {
	t.Helper()
	const size = 1000
	outside := netip.MustParseAddr("192.0.2.1")
	sender := nettest.NewSender(t, ns, device)
	g := &generator{begin: time.Now()}
	type stream struct {
		frame []byte
		rate  int64 // packets a second
		sent  int64
	}
	var streams []*stream
	for _, f := range movers {
		ip := netip.MustParseAddr(f.ip)
		for rate, frame := range map[*int64][]byte{&f.in: nettest.UDP(outside, ip, size), &f.out: nettest.UDP(ip, outside, size)} {
			if *rate > 0 {
				streams = append(streams, &stream{frame: frame, rate: *rate / size})
			}
		}
	}
	quit, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-quit:
				return
			case <-tick.C:
			}
			for _, s := range streams { // what a busy machine was late for is made up for
				due := int64(time.Since(g.begin).Seconds() * float64(s.rate))
				for ; s.sent < due; s.sent++ {
					sender.Send(s.frame)
					g.sent.Add(size)
				}
			}
		}
	}()
	t.Cleanup(func() { close(quit); <-ended })
	return g
}

// check checks that the rates of the movers are what was really sent.
func (g *generator) check() error {
	want := 0.0
	for _, f := range movers {
		want += float64(f.in + f.out)
	}
	if got := float64(g.sent.Load()) / time.Since(g.begin).Seconds(); math.Abs(got/want-1) > 0.02 {
		return fmt.Errorf("%.0f bytes/s were sent, want %.0f: the test shows nothing", got, want)
	}
	return nil
}

// row is a line of the table.
type row struct {
	ip      string
	in, out float64 // bytes a second
}

const rateText = `\s+([\d.]+) ([kMG]?)(bit|B)/s`

var (
	rowLine = regexp.MustCompile(`(?m)^(10\.1\.[\d.]+)` + rateText + rateText)
	allLine = regexp.MustCompile(`(?m)^(in)` + rateText + `\s+out` + rateText)
)

// rowsOf reads lines of a screen, or of text.
func rowsOf(screen string, lines *regexp.Regexp) (rows []row) {
	value := func(digits, prefix, unit string) float64 {
		v, _ := strconv.ParseFloat(digits, 64)
		v *= math.Pow(1000, float64(strings.Index(" kMG", cmp.Or(prefix, " "))))
		if unit == "bit" {
			v /= 8
		}
		return v
	}
	for _, m := range lines.FindAllStringSubmatch(screen, -1) {
		rows = append(rows, row{m[1], value(m[2], m[3], m[4]), value(m[5], m[6], m[7])})
	}
	return rows
}

// How far rates may be off. A window of a few seconds has 5 % less or more when the machine was busy, and the sender late.
const (
	exactly = 0.05
	roughly = 0.3
)

// asSent tells which rates of a screen are further off than that.
func asSent(screen string, tolerance float64) error {
	off := func(got float64, want int64) bool { return math.Abs(got-float64(want)) > tolerance*float64(want) }
	all := mover{}
	for _, f := range movers {
		all.in, all.out = all.in+f.in, all.out+f.out
	}
	if head := rowsOf(screen, allLine); len(head) != 1 || off(head[0].in, all.in) || off(head[0].out, all.out) {
		return fmt.Errorf("all together move %+v, want %+v", head, all)
	}
	rows := rowsOf(screen, rowLine)
	if len(rows) != len(movers) {
		return fmt.Errorf("%d rows, want %d: %+v", len(rows), len(movers), rows)
	}
	for _, r := range rows {
		i := slices.IndexFunc(movers, func(f mover) bool { return f.ip == r.ip })
		if i < 0 || off(r.in, movers[i].in) || off(r.out, movers[i].out) {
			return fmt.Errorf("%+v is not as was sent: %+v", r, movers)
		}
	}
	return nil
}

func order(want ...string) func(string) error {
	return func(screen string) error {
		var got []string
		for _, r := range rowsOf(screen, rowLine) {
			got = append(got, r.ip)
		}
		if !slices.Equal(got, want) {
			return fmt.Errorf("the order is %v, want %v", got, want)
		}
		return nil
	}
}

// inTerminal runs promflow in a terminal of the namespace, and gives a file with its process' number.
func inTerminal(t *testing.T, ns *nettest.Namespace, columns, lines int, args ...string) (term *terminal, pid string) {
	t.Helper()
	term = newTerminal(t, columns, lines, func(args ...string) *exec.Cmd { return ns.Command(args...) })
	pid = filepath.Join(t.TempDir(), "pid")
	term.run(fmt.Sprintf("echo what was before\n%s=1 sh -c 'echo $$ >%s; exec \"$@\"' sh %s '%s'", beProgram, pid, self(t), strings.Join(args, "' '")))
	return term, pid
}

// TestTop drives the program in a terminal while traffic of a known rate passes: as it asks another one, and as it captures itself.
func TestTop(t *testing.T) {
	t.Parallel() // most of the time is for windows to pass
	here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
	here.Veth("here", there, "there")
	counting := []string{"--interface=here", "--monitor-subnets=10.1.0.0/16"}
	p := serve(t, here, counting...)
	g := newGenerator(t, there, "there")

	views := map[string][]string{"asking": {"top", "http://" + p.address}}
	for _, backend := range live.Backends() {
		views[backend] = append([]string{"top", "--capture=" + backend}, counting...)
	}
	for name, args := range views {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			term, pid := inTerminal(t, here, 120, 40, args...)
			term.until(func(screen string) error { return asSent(screen, exactly) })
			eventually(t, g.check)
			term.until(order("10.1.0.10", "10.1.0.2", "10.1.0.30"))
			if name != "asking" {
				term.until(has("here (" + name + ")"))
			}

			term.typeText("3")
			term.until(order("10.1.0.2", "10.1.0.30", "10.1.0.10"))
			term.typeText("r")
			term.until(order("10.1.0.10", "10.1.0.30", "10.1.0.2"))
			term.typeText("7")
			term.until(order("10.1.0.2", "10.1.0.10", "10.1.0.30"))

			term.typeText("/0.30")
			term.until(order("10.1.0.30"))
			term.press("Enter")
			term.typeText("1")
			term.until(order("10.1.0.30"))
			term.until(has("filter: 0.30"))
			term.press("Escape")
			term.until(order("10.1.0.10", "10.1.0.2", "10.1.0.30"))

			term.typeText("u")
			term.until(func(screen string) error {
				return errors.Join(has("MB/s")(screen), asSent(screen, roughly))
			})

			term.resize(60, 20)
			term.until(func(screen string) error {
				lines := strings.Split(strings.TrimRight(screen, "\n"), "\n")
				if len(lines) != 20 || !strings.Contains(lines[19], "1-3 of 3") {
					return fmt.Errorf("%d lines", len(lines))
				}
				return asSent(screen, roughly)
			})

			if name == "afpacket" {
				number, err := os.ReadFile(pid)
				if err != nil {
					t.Fatal(err)
				}
				n, err := strconv.Atoi(strings.TrimSpace(string(number)))
				if err != nil {
					t.Fatal(err)
				}
				if err := syscall.Kill(n, syscall.SIGTERM); err != nil {
					t.Fatal(err)
				}
			} else {
				term.typeText("q")
			}
			term.mustBeBack(0, "what was before")
			if screen := term.screen(); strings.Contains(screen, "10.1.0.10") {
				t.Errorf("the shell's screen has rows:\n%s", screen)
			}
		})
	}
}

// TestTopPausesAndComesBack has the picture stand still while time goes on, then promflow away, and back.
func TestTopPausesAndComesBack(t *testing.T) {
	t.Parallel() // most of the time is for windows to pass
	here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
	here.Veth("here", there, "there")
	counting := []string{"--interface=here", "--monitor-subnets=10.1.0.0/16"}
	p := serve(t, here, counting...)
	newGenerator(t, there, "there")
	term, _ := inTerminal(t, here, 80, 24, "top", p.address)
	term.until(func(screen string) error { return asSent(screen, roughly) })

	term.typeText("p")
	term.until(has("PAUSED"))
	paused := term.screen()
	read := func() (r talkers.Report) {
		t.Helper()
		if err := json.Unmarshal([]byte(p.get(talkers.Path)), &r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	last := read().Time
	eventually(t, func() error {
		if after := read().Time.Sub(last); after < 2*talkers.Interval {
			return fmt.Errorf("the last reading is %v later", after)
		}
		return nil
	})
	if now := term.screen(); now != paused {
		t.Errorf("while it pauses\n%s\nbecomes\n%s", paused, now)
	}
	term.typeText(" ")
	term.until(hasNot("PAUSED"))
	term.until(func(screen string) error { return asSent(screen, roughly) })

	p.terminate()
	term.until(has("! no answer since"))
	term.until(func(screen string) error {
		return errors.Join(has("connection refused")(screen), asSent(screen, roughly))
	})
	start(t, here, inside(t, here, append([]string{"--metrics-address=" + p.address}, counting...)...)).listening()
	term.until(hasNot("no answer"))
	term.until(func(screen string) error { return asSent(screen, roughly) })
	term.press("C-c")
	term.mustBeBack(0, "what was before")
}

// TestTopIsSuspended has a shell suspend it and continue it, each time with a terminal as it should be.
func TestTopIsSuspended(t *testing.T) {
	t.Parallel() // most of the time is for the shell to do so
	here := nettest.NewNamespace(t)
	p := serve(t, here, "--interface=lo")
	term, file := inTerminal(t, here, 80, 24, "top", p.address)
	drawing := func() {
		t.Helper()
		term.until(has("q quit"))
		if !term.is("alternate_on") || term.is("cursor_flag") {
			t.Error("it draws beside what was before, or with a cursor")
		}
		term.typeText("p") // without Enter, and not to be seen
		term.until(has("PAUSED"))
		term.typeText("p")
		term.until(hasNot("PAUSED"))
	}
	drawing()
	number, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(string(number)))
	group, err := syscall.Getpgid(pid)
	if err != nil || group == syscall.Getpgrp() {
		t.Fatalf("process %d is in the group %d of this test: %v", pid, group, err)
	}
	signal := func(s syscall.Signal) func() {
		return func() {
			if err := syscall.Kill(pid, s); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []struct {
		name    string
		suspend func()
		caught  bool // it can leave the terminal to the shell
	}{
		{"by a key", func() { term.press("C-z") }, true},
		{"by a signal", signal(syscall.SIGTSTP), true},
		{"by one that it cannot catch", signal(syscall.SIGSTOP), false},
	} {
		c.suspend()
		eventually(t, func() error {
			stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			if !strings.Contains(string(stat), ") T ") {
				return fmt.Errorf("%s: it is not stopped: %s, %v", c.name, stat, err)
			}
			return nil
		})
		if err := syscall.Kill(-group, syscall.SIGSTOP); err != nil { // the script that runs it, too; a key has done that
			t.Fatal(err)
		}
		if c.caught {
			term.until(has("Stopped"))
			term.typeText("clear; stty -a")
			term.press("Enter")
			term.until(has(" icanon", " echo "))
			if term.is("alternate_on") || !term.is("cursor_flag") {
				t.Errorf("%s: the shell has another screen, or no cursor", c.name)
			}
		} else { // what other shells do by themselves
			term.typeText("stty sane; clear")
			term.press("C-j")
			term.until(hasNot("q quit"))
		}
		term.typeText("fg")
		term.press("Enter")
		drawing()
	}
	term.typeText("q")
	term.mustBeBack(0, "icanon")
}

// TestTopIsSuspendedOnce has several Ctrl-Z arrive in one read.
func TestTopIsSuspendedOnce(t *testing.T) {
	t.Parallel()
	here := nettest.NewNamespace(t)
	p := serve(t, here, "--interface=lo")
	term, _ := inTerminal(t, here, 80, 24, "top", p.address)
	term.until(has("q quit"))
	term.press("C-z", "C-z", "C-z")
	term.until(has("Stopped"))
	term.typeText("clear; fg")
	term.press("Enter")
	term.until(has("q quit"))
	term.typeText("p")
	term.until(has("PAUSED"))
	term.press("C-z") // once more
	term.until(has("Stopped"))
	term.typeText("fg")
	term.press("Enter")
	term.until(has("PAUSED"))
	term.typeText("q")
	term.mustBeBack(0, "Stopped")
}

// TestTopLeavesAPaste has more keys come than are handled as it is suspended, and as it ends.
func TestTopLeavesAPaste(t *testing.T) {
	t.Parallel()
	here := nettest.NewNamespace(t)
	p := serve(t, here, "--interface=lo")
	paste := strings.Repeat("j", 600)
	term, _ := inTerminal(t, here, 80, 24, "top", p.address)
	term.until(has("q quit"))
	term.typeText("\x1a" + paste)
	term.until(has("Stopped"))
	term.press("Enter") // what of it came to the shell
	term.typeText("fg")
	term.press("Enter")
	term.until(has("q quit"))
	term.typeText("q" + paste)
	term.mustBeBack(0, "Stopped")
}

// TestTopIsNotSuspended where nothing could continue it.
func TestTopIsNotSuspended(t *testing.T) {
	t.Parallel()
	here := nettest.NewNamespace(t)
	p := serve(t, here, "--interface=lo")
	for name, command := range map[string]string{
		"without a shell":                "exec env %s=1 %s top %s",
		"below one that ignores SIGTSTP": `sh -c 'trap "" TSTP; %s=1 %s top %s; true'`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			term := newTerminal(t, 80, 24, func(args ...string) *exec.Cmd { return here.Command(args...) })
			term.typeText(fmt.Sprintf(command, beProgram, self(t), p.address))
			term.press("Enter")
			term.until(has("q quit"))
			term.press("C-z")
			term.typeText("p")
			term.until(has("PAUSED"))
		})
	}
}

// TestTopTellsOfItsInterface has the interface go down while top captures, and logs what it has to say at the end.
func TestTopTellsOfItsInterface(t *testing.T) {
	t.Parallel() // most of the time is for windows to pass
	here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
	here.Veth("here", there, "there")
	term, _ := inTerminal(t, here, 100, 24, "top", "--interface=here")
	term.until(has("see --monitor-subnets"))
	here.IP("link", "set", "here", "down")
	term.until(has("! here is down or away"))
	here.IP("link", "set", "here", "up")
	term.until(hasNot("down or away"))
	here.IP("link", "del", "here")
	term.until(has("! here is down or away"))
	term.typeText("q")
	term.mustBeBack(0, "what was before", "promflow: warning: ")
}

// prints runs promflow, which must end with status 0, and gives what it printed.
func prints(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := runWithin(cmd); err != nil || errs.Len() > 0 {
		t.Errorf("ended with %v and said %s", err, &errs)
	}
	return out.String()
}

// TestTopPrints has no terminal.
func TestTopPrints(t *testing.T) {
	t.Parallel() // most of the time is for windows to pass
	here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
	here.Veth("here", there, "there")
	counting := []string{"--interface=here", "--monitor-subnets=10.1.0.0/16"}
	p := serve(t, here, counting...)
	newGenerator(t, there, "there")
	url := "http://" + p.address
	eventually(t, func() error { // a window that the movers fill
		r := talkers.Report{}
		if err := json.Unmarshal([]byte(p.get(talkers.Path)), &r); err != nil {
			return err
		}
		if r.WindowSeconds < 4 || r.Matching < 3 {
			return fmt.Errorf("%+v", r)
		}
		return nil
	})
	for name, args := range map[string][]string{
		"asking":                {"top", url},
		"asking, with --plain":  {"top", "--plain", "--bytes", url},
		"capturing":             append([]string{"top", "--capture=ebpf"}, counting...),
		"capturing from a ring": append([]string{"top", "--capture=afpacket"}, counting...),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := inside(t, here, args...)
			cmd.Env = append(cmd.Env, "LC_ALL=C.UTF-8", "PROMFLOW_INTERFACE=nosuch0")
			eventually(t, func() error {
				again := *cmd
				out := prints(t, &again)
				if strings.ContainsFunc(out, func(r rune) bool { return r != '\n' && (r < ' ' || r == 0x7f) }) {
					t.Errorf("control characters in %q", out)
				}
				return asSent(out, exactly)
			})
		})
	}
	t.Run("JSON", func(t *testing.T) {
		out := prints(t, inside(t, here, "top", "--output=json", "--count=2", "--limit=1", "--filter=10.1.0.2", url))
		lines := strings.Split(strings.TrimSpace(out), "\n")
		if len(lines) != 2 {
			t.Fatalf("%d lines, want 2", len(lines))
		}
		var times []time.Time
		for _, line := range lines {
			d := json.NewDecoder(strings.NewReader(line))
			d.DisallowUnknownFields()
			r := talkers.Report{}
			if err := d.Decode(&r); err != nil || r.WindowSeconds == 0 || r.Matching != 1 || len(r.Talkers) != 1 || r.Talkers[0].IP != "10.1.0.2" {
				t.Errorf("%v: %s", err, line)
			}
			times = append(times, r.Time)
		}
		if times[0].Equal(times[1]) {
			t.Errorf("both are of %v", times[0])
		}
	})
	t.Run("names", func(t *testing.T) {
		leases := write(t, "leases", "0 02:00:00:00:00:01 10.1.0.2 laptop *\n")
		named := append([]string{"top", "--host-info", "--reverse-dns=false", "--lease-files=" + leases, "--filter=LAPTOP"}, counting...)
		if out := prints(t, inside(t, here, named...)); !regexp.MustCompile(`(?m)^10\.1\.0\.2 +laptop `).MatchString(out) {
			t.Errorf("printed %s", out)
		}
	})
	t.Run("on a terminal that cannot be drawn on", func(t *testing.T) {
		term := newTerminal(t, 120, 30, func(args ...string) *exec.Cmd { return here.Command(args...) })
		term.run(fmt.Sprintf("TERM=dumb %s=1 %s top %s", beProgram, self(t), url))
		term.mustBeBack(0, "10.1.0.30", "promflow top  "+url)
	})
}

// TestTopOverTLS asks a promflow with a certificate and a password.
func TestTopOverTLS(t *testing.T) {
	t.Parallel() // most of the time is for windows to pass
	here := nettest.NewNamespace(t)
	certificate, key, _ := selfSigned(t)
	hash, err := bcrypt.GenerateFromPassword([]byte("open sesame"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	p := serve(t, here, "--interface=lo", "--monitor-subnets=127.0.0.1", "--web-config-file="+write(t, "web.yml", fmt.Sprintf(
		"tls_server_config: {cert_file: %s, key_file: %s}\nbasic_auth_users: {ali: %s}\n", certificate, key, hash)))
	right := write(t, "right.yml", fmt.Sprintf("tls_config: {ca_file: %s}\nbasic_auth: {username: ali, password_file: %s}\n", certificate,
		write(t, "password", "open sesame\n")))
	noPassword := write(t, "no-password.yml", fmt.Sprintf("tls_config: {ca_file: %s}\n", certificate))
	for name, args := range map[string][]string{
		"both from the file":      {"--http-config-file=" + right, "https://" + p.address},
		"the password in the URL": {"--http-config-file=" + noPassword, "https://ali:open%20sesame@" + p.address},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := prints(t, inside(t, here, append([]string{"top"}, args...)...))
			if rows := regexp.MustCompile(`(?m)^127\.0\.0\.1 `); !rows.MatchString(out) || strings.Contains(out, "sesame") {
				t.Error(out)
			}
		})
	}
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"no password":     {[]string{"--http-config-file=" + noPassword, "https://" + p.address}, "a user and a password that it knows (see --http-config-file)"},
		"a wrong one":     {[]string{"--http-config-file=" + noPassword, "https://ali:sesame@" + p.address}, "https://ali:xxxxx@"},
		"no certificates": {[]string{"https://" + p.address}, "--http-config-file can name the certificate authority"},
		"no TLS":          {[]string{"http://" + p.address}, "HTTPS server"},
	} {
		t.Run(name, func(t *testing.T) {
			line, printed := fails(t, inside(t, here, append([]string{"top"}, c.args...)...))
			if !strings.Contains(line, c.want) || strings.Contains(line, "sesame") || printed != "" {
				t.Errorf("said %q and printed %q, want %q", line, printed, c.want)
			}
		})
	}
}

// TestTopWithoutPromflow has nothing listen.
func TestTopWithoutPromflow(t *testing.T) {
	here := nettest.NewNamespace(t)
	for _, c := range []struct {
		args []string
		want []string
	}{
		{nil, []string{"http://localhost:9088", "connection refused", "promflow top http://router:9088", "promflow top --interface=eth0"}},
		{[]string{"nosuch.invalid"}, []string{"http://nosuch.invalid:9088", "lookup nosuch.invalid"}},
		{[]string{"127.0.0.1:81"}, []string{"http://127.0.0.1:81", "connection refused", "by default it is 9088"}},
		{[]string{"--interface=nosuch0"}, []string{`--interface "nosuch0"`, "no such network interface", "lo"}},
	} {
		line, printed := fails(t, inside(t, here, append([]string{"top"}, c.args...)...))
		for _, want := range c.want {
			if !strings.Contains(strings.ToLower(line), strings.ToLower(want)) || printed != "" {
				t.Errorf("%q: said %q and printed %q, want %q", c.args, line, printed, want)
			}
		}
	}
}

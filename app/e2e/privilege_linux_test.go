package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"promflow/capture/nettest"
)

var privileges = regexp.MustCompile(`(?m)^(Uid|Gid|Groups|CapInh|CapPrm|CapEff|CapAmb|NoNewPrivs):[ \t]*(.*)$`)

// threadsAre checks what every thread of a program may do.
func threadsAre(pid int, want string) error {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(files) < 2 {
		return fmt.Errorf("threads %v, %v", files, err)
	}
	for _, file := range files {
		status, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) {
			continue // it has ended
		}
		if err != nil {
			return err
		}
		var is []string
		for _, m := range privileges.FindAllStringSubmatch(string(status), -1) {
			is = append(is, m[1]+" "+strings.Join(slices.Compact(strings.Fields(m[2])), " "))
		}
		if got := strings.Join(is, ", "); got != want {
			return fmt.Errorf("%s: is %s, want %s", file, got, want)
		}
	}
	return nil
}

const none = "0000000000000000"

func mayDo(user int, groups, permitted string) string {
	return fmt.Sprintf("Uid %d, Gid %d, Groups %s, CapInh %s, CapPrm %s, CapEff %s, CapAmb %s, NoNewPrivs 1", user, user, groups, none, permitted, permitted, none)
}

// TestGivesUpPrivileges looks at what is left, and whether it still counts, also on an interface that was made anew.
func TestGivesUpPrivileges(t *testing.T) {
	nettest.Need(t, "setpriv", "setcap")
	program := copyForEveryone(t)
	nobody := func(args ...string) []string {
		return append([]string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"}, args...)
	}
	// A user of this test's own, with files that only the program sees: ip netns exec gives it mounts of its own.
	users := []string{"sh", "-c", `mount --bind "$0" /etc/passwd && mount --bind "$1" /etc/group && shift && exec "$@"`,
		write(t, "passwd", "flow:x:12346:12346::/:/bin/sh\n"), write(t, "group", "flow:x:12346:\nkeys:x:23456:flow\nothers:x:34567:\n")}
	const raw = "0000000000002000" // CAP_NET_RAW
	inKernel, kept, rawInKernel, rawKept := none, "none", raw, "cap_net_raw"
	if kernelBefore(t, 5, 19) {
		inKernel, kept, rawInKernel, rawKept = "0000008000000000", "cap_bpf", "0000008000002000", "cap_bpf,cap_net_raw" // CAP_BPF
	}
	for _, c := range []struct {
		name    string
		setcap  string
		by      []string
		args    []string
		want    string
		logs    string
		backend string // auto if empty
	}{
		{name: "root", want: mayDo(65532, "", inKernel), logs: "capabilities=" + kept},
		{name: "root, by the ring", backend: "afpacket", want: mayDo(65532, "", none), logs: "capabilities=none"},
		{name: "root with a glob", args: []string{"--interface=z*"}, want: mayDo(65532, "", rawInKernel), logs: "capabilities=" + rawKept},
		{name: "root with a glob, by the ring", backend: "afpacket", args: []string{"--interface=z*"}, want: mayDo(65532, "", raw), logs: "capabilities=cap_net_raw"},
		{name: "another user", args: []string{"--user=12345"}, want: mayDo(12345, "", inKernel), logs: "user=12345"},
		{name: "a user by name", by: users, args: []string{"--user=flow"}, want: mayDo(12346, "12346 23456", inKernel), logs: "user=12346"},
		{name: "a user by name, with a group", by: users, args: []string{"--user=flow:12346"}, want: mayDo(12346, "", inKernel)},
		{name: "file capabilities", setcap: "cap_net_raw,cap_bpf+ep", by: nobody(), want: mayDo(65534, "", inKernel), logs: "capabilities=" + kept},
		{name: "file capabilities, with two interfaces", setcap: "cap_net_raw,cap_bpf+ep", by: nobody(), args: []string{"--interface=lo"}, want: mayDo(65534, "", inKernel), logs: "capabilities=" + kept},
		{name: "file capabilities that are only permitted", setcap: "cap_net_raw,cap_bpf=p", by: nobody(), want: mayDo(65534, "", inKernel), logs: "capabilities=" + kept},
		{name: "file capabilities, some of which are ruled out", setcap: "cap_net_raw,cap_bpf=p", by: nobody("--bounding-set=-all,+net_raw"), backend: "afpacket", want: mayDo(65534, "", none), logs: "capabilities=none"},
		{name: "ambient capabilities", by: nobody("--inh-caps=+net_raw,+bpf", "--ambient-caps=+net_raw,+bpf"), want: mayDo(65534, "", inKernel)},
		{name: "root that cannot change", by: []string{"setpriv", "--bounding-set=-setuid,-setgid"}, want: mayDo(0, "", inKernel), logs: "stays root"},
	} {
		t.Run(c.name, func(t *testing.T) {
			here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
			here.Veth("a0", there, "a0")
			grant(t, program, c.setcap)
			backend := "ebpf"
			args := append(slices.Clone(c.by), program, "--metrics-address=127.0.0.1:0", "--interface=a0", "--monitor-subnets=10.0.0.0/8", "--packets")
			if c.backend != "" {
				backend = c.backend
				args = append(args, "--capture="+backend)
			}
			cmd := here.Command(append(args, c.args...)...)
			cmd.Env = append(os.Environ(), beProgram+"=1")
			p := start(t, here, cmd).listening()
			begin := time.Now()
			eventually(t, func() error { return threadsAre(p.cmd.Process.Pid, c.want) })
			if took := time.Since(begin); took > time.Second {
				t.Logf("took %v", took)
			}
			if log := p.log.String(); !strings.Contains(log, c.logs) {
				t.Errorf("the log has no %s: %s", c.logs, log)
			}
			all := programs{backend: p}
			sendOn(t, there, "a0", 10)
			all.agree(t, oneAddress(10))
			here.IP("link", "del", "a0")
			here.Veth("a0", there, "a0")
			all.await(t, "a0", "1", 10)
			sendOn(t, there, "a0", 10)
			all.agree(t, oneAddress(20))
			if len(c.args) > 0 && strings.Contains(c.args[0], "z*") {
				here.Veth("z0", there, "z0")
				all.await(t, "z0", "1", 0)
				sendOn(t, there, "z0", 10)
				all.agree(t, oneAddress(30))
			}
			if err := threadsAre(p.cmd.Process.Pid, c.want); err != nil {
				t.Error(err)
			}
			p.terminate()
		})
	}
}

// takeOver tries what another process of the same user may try: to read the environment, and to take each of the files.
// debianPython is there for every user, unlike one that root has in its own folder.
const debianPython = "/usr/bin/python3"

const takeOver = `
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
pid, taken = int(sys.argv[1]), 0
pidfd = libc.syscall(434, pid, 0) # pidfd_open
for fd in range(256):
    taken += libc.syscall(438, pidfd, fd, 0) >= 0 # pidfd_getfd
try:
    read = len(open(f"/proc/{pid}/environ").read())
except PermissionError:
    read = 0
print("environment" if read else "no environment,", "files" if taken else "no files")
`

// TestNoProcessOfItsUserTakesOver has another process of the user, without capabilities, try to.
func TestNoProcessOfItsUserTakesOver(t *testing.T) {
	nettest.Need(t, "setpriv", debianPython)
	ns := nettest.NewNamespace(t)
	by := []string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"}
	try := func(pid int) string {
		t.Helper()
		out, err := ns.Command(append(slices.Clone(by), debianPython, "-c", takeOver, fmt.Sprint(pid))...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return strings.TrimSpace(string(out))
	}
	other := ns.Command(append(slices.Clone(by), "sleep", "60")...)
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Process.Kill(); _ = other.Wait() }()
	eventually(t, func() error { // once it is sleep
		if got := try(other.Process.Pid); got != "environment files" {
			return fmt.Errorf("of another program it gets %s: this test shows nothing", got)
		}
		return nil
	})

	by = append(by, "--inh-caps=+net_raw,+bpf", "--ambient-caps=+net_raw,+bpf")
	cmd := ns.Command(append(by, copyForEveryone(t), "--interface=lo", "--monitor-subnets=10.0.0.0/8", "--metrics-address=127.0.0.1:0")...)
	by = by[:4]
	cmd.Env = append(os.Environ(), beProgram+"=1")
	p := start(t, ns, cmd).listening()
	eventually(t, func() error {
		if got := try(p.cmd.Process.Pid); got != "no environment, no files" {
			return fmt.Errorf("it gets %s", got)
		}
		return nil
	})
	p.terminate()
}

// kernelBefore tells whether this kernel is older than a version of Linux.
func kernelBefore(t *testing.T, major, minor int) bool {
	t.Helper()
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		t.Fatal(err)
	}
	var is [2]int
	if _, err := fmt.Sscanf(string(release), "%d.%d", &is[0], &is[1]); err != nil {
		t.Fatalf("%s: %v", release, err)
	}
	return slices.Compare(is[:], []int{major, minor}) < 0
}

// grant gives a program file capabilities, until the test's end.
func grant(t *testing.T, path, capabilities string) {
	t.Helper()
	if capabilities != "" {
		u := unprivileged{t: t}
		u.grant("setcap " + capabilities + " " + path)
		t.Cleanup(func() { u.grant("setcap -r " + path) })
	}
}

func TestRootStaysOnRequest(t *testing.T) {
	ns := nettest.NewNamespace(t)
	p := serve(t, ns, "--interface=lo", "--user=root")
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(status), "Uid:\t0\t0\t0\t0") || strings.Contains(string(status), "CapEff:\t"+none) {
		t.Errorf("the status is %s", status)
	}
}

func TestRootSaysWhatItKeeps(t *testing.T) {
	nettest.Need(t, "setpriv")
	ns := nettest.NewNamespace(t)
	cmd := ns.Command("setpriv", "--bounding-set=-all,+net_raw,+bpf", self(t), "--interface=lo", "--metrics-address=127.0.0.1:0", "--user=root")
	cmd.Env = append(os.Environ(), beProgram+"=1")
	if p := start(t, ns, cmd).listening(); !strings.Contains(p.log.String(), "user=0 group=0 capabilities=cap_net_raw,cap_bpf\n") {
		t.Errorf("the log is %s", p.log)
	}
}

func TestGroupsThatCannotBe(t *testing.T) {
	nettest.Need(t, "setpriv")
	ns := nettest.NewNamespace(t)
	if line, _ := fails(t, inside(t, ns, "--interface=lo", "--user=root:5")); !strings.Contains(line, `--user "root:5": root keeps its groups`) {
		t.Errorf("said %q", line)
	}
	cmd := ns.Command("setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", "--inh-caps=+net_raw,+bpf", "--ambient-caps=+net_raw,+bpf",
		copyForEveryone(t), "--interface=lo", "--metrics-address=127.0.0.1:0", "--log-level=error", "--user=1000:5")
	cmd.Env = append(os.Environ(), beProgram+"=1")
	if line, _ := fails(t, cmd); !strings.Contains(line, "--user 1000:5: only root can change its group, and this is 1000:1000") {
		t.Errorf("said %q", line)
	}
}

// TestFilesMustBeReadableLater has files that root can read and nobody else.
func TestFilesMustBeReadableLater(t *testing.T) {
	ns := nettest.NewNamespace(t)
	certificate, key, _ := selfSigned(t)
	if err := os.Chown(key, 0, 0); err != nil {
		t.Fatal(err)
	}
	web := write(t, "web.yml", fmt.Sprintf("tls_server_config: {cert_file: %s, key_file: %s}\n", certificate, key))
	headers := write(t, "headers", "a=b")
	if err := os.Chown(headers, 0, 0); err != nil {
		t.Fatal(err)
	}
	for flag, file := range map[string]string{"--web-config-file": web, "--otlp-headers-file": headers} {
		args := []string{"--interface=lo", "--metrics-address=127.0.0.1:0", "--otlp-endpoint=127.0.0.1:1", "--log-level=error", flag + "=" + file}
		line, _ := fails(t, inside(t, ns, args...))
		if !strings.Contains(line, flag) || !strings.Contains(line, "permission denied") || !strings.Contains(line, "--user") {
			t.Errorf("%s: said %q", flag, line)
		}
		p := serve(t, ns, append(args[:1:1], "--otlp-endpoint=127.0.0.1:1", flag+"="+file, "--user=root")...)
		p.terminate()
	}
	nettest.Need(t, "setpriv")
	if err := os.Chown(headers, 12345, 12345); err != nil { // root without capabilities cannot read it either
		t.Fatal(err)
	}
	cmd := ns.Command("setpriv", "--bounding-set=-setuid,-setgid", self(t), "--interface=lo", "--metrics-address=127.0.0.1:0", "--log-level=error",
		"--otlp-endpoint=127.0.0.1:1", "--otlp-headers-file="+headers)
	cmd.Env = append(os.Environ(), beProgram+"=1")
	if line, _ := fails(t, cmd); !strings.Contains(line, "--otlp-headers-file") || !strings.Contains(line, "permission denied") || !strings.Contains(line, "as user 0") {
		t.Errorf("root that cannot change: said %q", line)
	}
	if line, _ := fails(t, inside(t, ns, "--interface=lo", "--user=nosuch")); !strings.Contains(line, `--user "nosuch"`) {
		t.Errorf("said %q", line)
	}
}

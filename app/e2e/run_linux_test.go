package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"promflow/app"
	"promflow/capture/nettest"
)

// TestEndsInTime sends signals in every situation that could hold the program up.
func TestEndsInTime(t *testing.T) {
	const limit = 5 * time.Second
	for _, c := range []struct {
		name      string
		signal    os.Signal
		collector func(*testing.T, *nettest.Namespace) string
		clients   []string // what is asked on connections that are left open
		traffic   bool
	}{
		{name: "idle", signal: syscall.SIGTERM},
		{name: "idle", signal: syscall.SIGINT},
		{name: "traffic", signal: syscall.SIGTERM, traffic: true},
		{name: "idle connection", signal: syscall.SIGTERM, clients: []string{"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"}},
		{name: "half a request", signal: syscall.SIGTERM, clients: []string{"GET /metrics HTTP/1.1\r\nHos", ""}},
		{name: "collector down", signal: syscall.SIGTERM, collector: nobody},
		{name: "collector frozen", signal: syscall.SIGTERM, collector: frozen},
		{name: "everything", signal: syscall.SIGINT, collector: frozen, traffic: true,
			clients: []string{"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "GET /metrics HTTP/1.1\r\nHos", ""}},
	} {
		t.Run(fmt.Sprintf("%s, %v", c.name, c.signal), func(t *testing.T) {
			t.Parallel()
			here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
			here.Veth("here", there, "there")
			args := []string{"--interface=here", "--monitor-subnets=10.0.0.0/8"}
			if c.collector != nil {
				args = append(args, "--otlp-endpoint="+c.collector(t, here), "--otlp-interval=100ms")
			}
			p := serve(t, here, args...)
			if c.traffic {
				flood(t, there, "there")
				eventually(t, func() error {
					if page := p.get("/metrics"); !strings.Contains(page, `promflow_receive_bytes_total{ip="10.0.0.2"}`) {
						return errors.New(page)
					}
					return nil
				})
			}
			for _, request := range c.clients {
				conn, err := here.Dial(t.Context(), "tcp", p.address)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				if _, err := io.WriteString(conn, request); err != nil {
					t.Fatal(err)
				}
			}
			p.get("/metrics") // by now the connections before this one have been accepted
			if took := p.end(c.signal); took > limit {
				t.Errorf("took %v", took)
			}
		})
	}
}

// flood sends packets until the test ends.
func flood(t *testing.T, ns *nettest.Namespace, device string) {
	t.Helper()
	sender := nettest.NewSender(t, ns, device)
	frame := nettest.UDP(netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), 100)
	var wg sync.WaitGroup
	quit := make(chan struct{})
	wg.Go(func() {
		for {
			select {
			case <-quit:
				return
			default:
				sender.Send(frame)
			}
		}
	})
	t.Cleanup(func() { close(quit); wg.Wait() })
}

// nobody is the address of a collector that is down.
func nobody(*testing.T, *nettest.Namespace) string { return "127.0.0.1:1" }

// frozen gives the address of a collector that has connections but never answers, in the namespace unless that is nil.
func frozen(t *testing.T, ns *nettest.Namespace) string {
	t.Helper()
	var l net.Listener
	listen := func() (err error) {
		l, err = net.Listen("tcp", "127.0.0.1:0")
		return err
	}
	do := func(f func() error) error { return f() }
	if ns != nil {
		do = ns.Do
	}
	if err := do(listen); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

func TestRunLeavesNothing(t *testing.T) {
	nettest.NeedRoot(t)
	endpoint := frozen(t, nil)
	before := goleak.IgnoreCurrent()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	ended := make(chan int, 1)
	go func() {
		ended <- app.Main([]string{"promflow", "--interface=lo", "--metrics-address=" + address, "--otlp-endpoint=" + endpoint,
			"--otlp-interval=100ms", "--user=root", "--log-level=error"}) // as root, since this process has other tests to run
	}()
	running := true
	stop := func() {
		if !running {
			return
		}
		running = false
		if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if status := <-ended; status != 0 {
			t.Errorf("ended with status %d", status)
		}
	}
	t.Cleanup(stop)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	eventually(t, func() error {
		select {
		case status := <-ended:
			running = false
			t.Fatalf("ended with status %d at its start", status)
		default:
		}
		response, err := client.Get("http://" + address + "/-/ready")
		if err == nil {
			response.Body.Close()
		}
		return err
	})
	_, page := request(t, client, "http://"+address+"/metrics", func(*http.Request) {})
	if got := sample(t, page, `promflow_capture_up{backend="ebpf",interface="lo"}`); got != 1 {
		t.Errorf("capture_up is %v", got)
	}
	stop()
	goleak.VerifyNone(t, before)
}

func TestLogs(t *testing.T) {
	ns := nettest.NewNamespace(t)
	t.Run("json", func(t *testing.T) {
		p := serve(t, ns, "--interface=lo", "--log-format=json")
		p.terminate()
		for line := range strings.Lines(p.log.String()) {
			var entry struct{ Time, Level, Msg string }
			if err := json.Unmarshal([]byte(line), &entry); err != nil || entry.Time == "" || entry.Level == "" || entry.Msg == "" {
				t.Errorf("%v: %s", err, line)
			}
		}
	})
	t.Run("error", func(t *testing.T) {
		p := start(t, ns, inside(t, ns, "--interface=lo", "--log-level=error"))
		p.address = "127.0.0.1:9088"
		eventually(t, func() error { _, err := p.try("/-/ready"); return err })
		p.terminate()
		if p.log.String() != "" {
			t.Error("the log has", p.log)
		}
	})
	t.Run("debug", func(t *testing.T) {
		p := serve(t, ns, "--interface=lo", "--log-level=debug")
		p.terminate()
		if !strings.Contains(p.log.String(), "msg=capturing interface=lo") {
			t.Error("the log has", p.log)
		}
	})
}

// TestReplayShowsProgress watches a replay on a terminal.
func TestReplayShowsProgress(t *testing.T) {
	terminal, screen := openTerminal(t)
	r, w := io.Pipe()
	cmd := promflow(t, "replay", "-")
	cmd.Stdin, cmd.Stderr = r, terminal
	err := cmd.Start()
	terminal.Close() // so that reading ends with the program, by EIO
	if err != nil {
		t.Fatal(err)
	}
	defer time.AfterFunc(deadline, func() { cmd.Process.Kill() }).Stop()
	go w.Write(traffic())
	var shown strings.Builder
	for buf := make([]byte, 4096); !strings.Contains(shown.String(), "8 packets, "); {
		n, err := screen.Read(buf)
		if err != nil {
			t.Fatalf("%v after %q", err, &shown)
		}
		shown.Write(buf[:n])
	}
	w.Close()
	rest, _ := io.ReadAll(screen)
	shown.Write(rest)
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if got := shown.String(); !strings.HasPrefix(got, "\r\x1b[K"+"standard input: ") || !strings.HasSuffix(got, "\r\x1b[K") {
		t.Errorf("showed %q", got)
	}
}

// openTerminal makes a pseudo terminal (pty(7)) and gives its file and the side that sees what is written to it.
func openTerminal(t *testing.T) (terminal, screen *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		nettest.Lacks(t, "/dev/ptmx")
	}
	t.Cleanup(func() { screen.Close() })
	n, err := unix.IoctlGetInt(int(screen.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(screen.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { terminal.Close() })
	return terminal, screen
}

package e2e

import (
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"promflow/capture/nettest"
)

// A console that nobody reads any more does not keep the program from its end.
func TestEndsWithAnUnreadConsole(t *testing.T) {
	t.Setenv("OTEL_METRIC_EXPORT_INTERVAL", "1")
	ns := nettest.NewNamespace(t)
	unread, stdout, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer unread.Close()
	// With room for one page of memory (pipe(7)), what is printed first leaves none for what comes next.
	if _, err := unix.FcntlInt(unread.Fd(), unix.F_SETPIPE_SZ, os.Getpagesize()); err != nil {
		t.Fatal(err)
	}
	cmd := inside(t, ns, "--interface=lo", "--metrics-address=127.0.0.1:0", "--exporters=prometheus,console")
	cmd.Stdout = stdout
	p := start(t, ns, cmd).listening()
	stdout.Close()
	eventually(t, func() error {
		n, err := unix.IoctlGetInt(int(unread.Fd()), unix.TIOCINQ)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			return errors.New("nothing was printed")
		}
		return nil
	})
	if took := p.terminate(); took > 5*time.Second {
		t.Errorf("ended after %v", took)
	}
}

// A console that is a pipe whose reader has ended, such as head, ends the program in order.
func TestEndsWithTheReaderOfItsConsole(t *testing.T) {
	t.Setenv("OTEL_METRIC_EXPORT_INTERVAL", "1")
	ns := nettest.NewNamespace(t)
	read, stdout, err := os.Pipe()
	nettest.Check(t, err)
	cmd := inside(t, ns, "--interface=lo", "--metrics-address=127.0.0.1:0", "--exporters=prometheus,console")
	cmd.Stdout = stdout
	p := start(t, ns, cmd).listening()
	stdout.Close()
	read.Close()
	<-p.ended
	if p.err != nil {
		t.Errorf("ended with %v", p.err)
	}
}

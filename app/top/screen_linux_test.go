package top

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"promflow/app/top/terminaltest"
	"promflow/telemetry/talkers"
)

// show makes the test binary show something, to run as a process of its own in a terminal.
const show = "PROMFLOW_TEST_SHOW"

func TestMain(m *testing.M) {
	if what := os.Getenv(show); what != "" {
		if err := showThat(what); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// showThat shows a few addresses, and what happens then.
func showThat(what string) error {
	asked := 0
	return Show(context.Background(), Options{Watched: "a test"}, func(context.Context, talkers.Query) (*talkers.Report, error) {
		asked++
		switch {
		case asked > 1 && what == "panic":
			panic("something is wrong")
		case asked > 1 && what == "hang-up":
			return office(true), syscall.Kill(os.Getpid(), syscall.SIGHUP)
		case asked > 1 && what == "failure":
			return nil, errors.New("it went away")
		}
		return office(true), nil
	}, func() []string { return []string{"warned"} })
}

// run has a terminal show something.
func run(t *testing.T, what, environment string) *terminaltest.Terminal {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	term := terminaltest.New(t, 100, 30, func(args ...string) *exec.Cmd { return exec.Command(args[0], args[1:]...) })
	term.Run(fmt.Sprintf("echo before; env %s=%s %s %s", show, what, environment, self))
	return term
}

func TestTerminalIsBackAfterAPanic(t *testing.T) {
	run(t, "panic", "GOTRACEBACK=none").MustBeBack(2, "before", "panic: something is wrong")
}

func TestTerminalIsBackAfterAHangUp(t *testing.T) {
	run(t, "hang-up", "").MustBeBack(0, "before")
}

func TestFailuresAndWarningsAreShown(t *testing.T) {
	term := run(t, "failure", "")
	term.Until(terminaltest.Has("! no answer since", "it went away", "! warned", "192.168.1.133"))
	if !term.Is("alternate_on") || term.Is("cursor_flag") {
		t.Error("it has no screen of its own, or a cursor")
	}
	term.Press("C-c")
	term.MustBeBack(0, "before")
}

func TestColours(t *testing.T) {
	for environment, want := range map[string]bool{"NO_COLOR=": true, "NO_COLOR=1": false} {
		term := run(t, "warning", environment)
		term.Until(terminaltest.Has("! warned"))
		screen := term.Escaped()
		if got := strings.Contains(screen, "\x1b[31m! warned"); got != want {
			t.Errorf("%s: a colour %v, want %v: %q", environment, got, want, screen)
		}
		if !strings.Contains(screen, "\x1b[7mIP") {
			t.Errorf("%s: nothing is reversed: %q", environment, screen)
		}
	}
}

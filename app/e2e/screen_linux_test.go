package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"promflow/app/top"
	"promflow/telemetry/talkers"
)

// beScreen makes the test binary show something, to run as a process of its own in a terminal.
const beScreen = "PROMFLOW_TEST_BE_SCREEN"

func init() { // before TestMain clears the environment
	if what := os.Getenv(beScreen); what != "" {
		if err := show(what); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
}

// show shows an address, and what happens then.
func show(what string) error {
	report := &talkers.Report{
		Time: time.Now(), WindowSeconds: 4, IntervalSeconds: 2, Addresses: 1, Matching: 1, Talkers: []talkers.Talker{{IP: "192.168.1.133"}},
	}
	asked := 0
	return top.Show(context.Background(), top.Options{Watched: "a test"}, func(context.Context, talkers.Query) (*talkers.Report, error) {
		asked++
		switch {
		case asked > 1 && what == "panic":
			panic("something is wrong")
		case asked > 1 && what == "hang-up":
			return report, syscall.Kill(os.Getpid(), syscall.SIGHUP)
		case asked > 1 && what == "failure":
			return nil, errors.New("it went away")
		}
		return report, nil
	}, func() []string { return []string{"warned"} })
}

// showing has a terminal show something.
func showing(t *testing.T, what, environment string) *terminal {
	t.Helper()
	term := newTerminal(t, 100, 30, func(args ...string) *exec.Cmd { return exec.Command(args[0], args[1:]...) })
	term.run(fmt.Sprintf("echo before; env %s=%s %s %s", beScreen, what, environment, self(t)))
	return term
}

func TestTerminalIsBackAfterAPanic(t *testing.T) {
	showing(t, "panic", "GOTRACEBACK=none").mustBeBack(2, "before", "panic: something is wrong")
}

func TestTerminalIsBackAfterAHangUp(t *testing.T) {
	showing(t, "hang-up", "").mustBeBack(0, "before")
}

func TestFailuresAndWarningsAreShown(t *testing.T) {
	term := showing(t, "failure", "")
	term.until(has("! no answer since", "it went away", "! warned", "192.168.1.133"))
	if !term.is("alternate_on") || term.is("cursor_flag") {
		t.Error("it has no screen of its own, or a cursor")
	}
	term.press("C-c")
	term.mustBeBack(0, "before")
}

func TestColours(t *testing.T) {
	for environment, want := range map[string]bool{"NO_COLOR=": true, "NO_COLOR=1": false} {
		term := showing(t, "warning", environment)
		term.until(has("! warned"))
		screen := term.escaped()
		if got := strings.Contains(screen, "\x1b[31m! warned"); got != want {
			t.Errorf("%s: a colour %v, want %v: %q", environment, got, want, screen)
		}
		if !strings.Contains(screen, "\x1b[7mIP") {
			t.Errorf("%s: nothing is reversed: %q", environment, screen)
		}
	}
}

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"promflow/capture/nettest"
)

// terminal is a shell in a terminal with UTF-8: in tmux. A test presses its keys and reads its screen.
type terminal struct {
	t      testing.TB
	folder string // of tmux's socket
}

// prompt is the prompt of the shell.
const prompt = "ready> "

// newTerminal starts a terminal of that size, which ends with the test. command makes the command that starts tmux, such as with
// [exec.Command], or for a network namespace.
func newTerminal(t testing.TB, columns, lines int, command func(args ...string) *exec.Cmd) *terminal {
	t.Helper()
	nettest.Need(t, "tmux", "stty")
	folder, err := os.MkdirTemp("", "terminal") // not t.TempDir: the path of a socket has at most 107 bytes (unix(7))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	shell := write(t, "shell", "PS1='"+prompt+"'\n")
	term := &terminal{t: t, folder: folder}
	cmd := command("tmux", "-u", "-L", "test", "-f", "/dev/null", "new-session", "-d", "-x", fmt.Sprint(columns), "-y", fmt.Sprint(lines),
		"env", "ENV="+shell, "PS1="+prompt, "sh", "-i", ";", "set", "-g", "status", "off")
	cmd.Env = term.environment()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("tmux: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the terminal shows\n%s", term.screen())
		}
		term.tmux("kill-server")
	})
	term.resize(columns, lines) // without the status line
	term.until(has(strings.TrimSpace(prompt)))
	return term
}

// environment is the environment of the test, without the variables that change a terminal.
func (term *terminal) environment() (env []string) {
	for _, v := range os.Environ() {
		switch name, _, _ := strings.Cut(v, "="); name {
		case "TMUX", "TMUX_PANE", "TERM", "COLORTERM", "NO_COLOR", "LANG", "LC_ALL", "LC_CTYPE", "LINES", "COLUMNS":
		default:
			env = append(env, v)
		}
	}
	return append(env, "TMUX_TMPDIR="+term.folder, "LC_ALL=C.UTF-8", "TERM=xterm-256color")
}

// tmux runs a command of tmux, and returns its output.
func (term *terminal) tmux(args ...string) string {
	term.t.Helper()
	cmd := exec.Command("tmux", append([]string{"-u", "-L", "test"}, args...)...)
	cmd.Env = term.environment()
	out, err := cmd.CombinedOutput()
	if err != nil {
		term.t.Fatalf("tmux %q: %v: %s", args, err, out)
	}
	return string(out)
}

// typeText types text.
func (term *terminal) typeText(text string) { term.t.Helper(); term.tmux("send-keys", "-l", text) }

// press presses keys by their names in tmux(1), such as Enter or C-c.
func (term *terminal) press(keys ...string) {
	term.t.Helper()
	term.tmux(append([]string{"send-keys"}, keys...)...)
}

// screen returns the text on the screen.
func (term *terminal) screen() string { term.t.Helper(); return term.tmux("capture-pane", "-p") }

// escaped returns the text on the screen with the escape sequences for its colors.
func (term *terminal) escaped() string { term.t.Helper(); return term.tmux("capture-pane", "-p", "-e") }

// is tells whether a flag of tmux is set, such as alternate_on.
func (term *terminal) is(flag string) bool {
	term.t.Helper()
	return strings.TrimSpace(term.tmux("display-message", "-p", "#{"+flag+"}")) == "1"
}

// resize changes the size of the terminal.
func (term *terminal) resize(columns, lines int) {
	term.t.Helper()
	term.tmux("resize-window", "-x", fmt.Sprint(columns), "-y", fmt.Sprint(lines))
}

// run types a command. When it has ended, the screen shows "status" and its status, and a message if stty(1) does not report the same
// modes as before.
func (term *terminal) run(command string) {
	term.t.Helper()
	script := write(term.t, "command", "before=$(stty -g)\n"+command+"\nstatus=$?\n"+
		"[ \"$before\" = \"$(stty -g)\" ] || echo 'the terminal is another'\necho status $status\n")
	term.typeText("sh " + script)
	term.press("Enter")
}

// pollEvery is how often until reads the screen. Each time starts a process, which takes time from the tested program.
const pollEvery = 100 * time.Millisecond

// until waits until check returns nil.
func (term *terminal) until(check func(screen string) error) {
	term.t.Helper()
	for end := time.Now().Add(deadline); ; time.Sleep(pollEvery) {
		err := check(term.screen())
		if err == nil {
			return
		}
		if time.Now().After(end) {
			term.t.Fatal(err)
		}
	}
}

// has checks that a screen has all of the texts.
func has(texts ...string) func(screen string) error {
	return func(screen string) error {
		for _, text := range texts {
			if !strings.Contains(screen, text) {
				return fmt.Errorf("no %q on the screen", text)
			}
		}
		return nil
	}
}

// hasNot checks that a screen does not have the text.
func hasNot(text string) func(screen string) error {
	return func(screen string) error {
		if strings.Contains(screen, text) {
			return fmt.Errorf("%q on the screen", text)
		}
		return nil
	}
}

// mustBeBack waits until a command has ended with a status, and checks that the terminal is as before: its modes, its cursor, and its
// screen, which had the texts.
func (term *terminal) mustBeBack(status int, texts ...string) {
	term.t.Helper()
	term.until(has(append(texts, fmt.Sprint("status ", status), prompt[:len(prompt)-1])...))
	if strings.Contains(term.screen(), "the terminal is another") {
		term.t.Error("the terminal has other modes than before")
	}
	if term.is("alternate_on") || !term.is("cursor_flag") || term.is("mouse_any_flag") {
		term.t.Error("the terminal has another screen, no cursor, or a mouse")
	}
}

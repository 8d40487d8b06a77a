// Package terminaltest gives tests a terminal: a shell in tmux. A test presses its keys and reads its screen.
package terminaltest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"promflow/capture/testnet"
)

// Terminal is a shell in a terminal with UTF-8.
type Terminal struct {
	t      testing.TB
	folder string // of tmux's socket
}

// deadline is how long a test waits for the screen; machines may be busy.
const deadline = 30 * time.Second

// prompt is the prompt of the shell.
const prompt = "ready> "

// New starts a terminal of that size, which ends with the test. command makes the command that starts tmux, such as with [exec.Command], or
// for a network namespace.
func New(t testing.TB, columns, lines int, command func(args ...string) *exec.Cmd) *Terminal {
	t.Helper()
	testnet.Need(t, "tmux", "stty")
	folder, err := os.MkdirTemp("", "terminal") // not t.TempDir: the path of a socket has at most 107 bytes (unix(7))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	shell := write(t, folder, "shell", "PS1='"+prompt+"'\n")
	term := &Terminal{t: t, folder: folder}
	cmd := command("tmux", "-u", "-L", "test", "-f", "/dev/null", "new-session", "-d", "-x", fmt.Sprint(columns), "-y", fmt.Sprint(lines),
		"env", "ENV="+shell, "PS1="+prompt, "sh", "-i", ";", "set", "-g", "status", "off")
	cmd.Env = term.environment()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("tmux: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the terminal shows\n%s", term.Screen())
		}
		term.tmux("kill-server")
	})
	term.Resize(columns, lines) // without the status line
	term.Until(Has(strings.TrimSpace(prompt)))
	return term
}

func write(t testing.TB, folder, name, content string) string {
	t.Helper()
	path := filepath.Join(folder, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// environment is the environment of the test, without the variables that change a terminal.
func (term *Terminal) environment() (env []string) {
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
func (term *Terminal) tmux(args ...string) string {
	term.t.Helper()
	cmd := exec.Command("tmux", append([]string{"-u", "-L", "test"}, args...)...)
	cmd.Env = term.environment()
	out, err := cmd.CombinedOutput()
	if err != nil {
		term.t.Fatalf("tmux %q: %v: %s", args, err, out)
	}
	return string(out)
}

// Type types text.
func (term *Terminal) Type(text string) { term.t.Helper(); term.tmux("send-keys", "-l", text) }

// Press presses keys by their names in tmux(1), such as Enter or C-c.
func (term *Terminal) Press(keys ...string) {
	term.t.Helper()
	term.tmux(append([]string{"send-keys"}, keys...)...)
}

// Screen returns the text on the screen.
func (term *Terminal) Screen() string { term.t.Helper(); return term.tmux("capture-pane", "-p") }

// Escaped returns the text on the screen with the escape sequences for its colors.
func (term *Terminal) Escaped() string { term.t.Helper(); return term.tmux("capture-pane", "-p", "-e") }

// Is tells whether a flag of tmux is set, such as alternate_on.
func (term *Terminal) Is(flag string) bool {
	term.t.Helper()
	return strings.TrimSpace(term.tmux("display-message", "-p", "#{"+flag+"}")) == "1"
}

// Resize changes the size of the terminal.
func (term *Terminal) Resize(columns, lines int) {
	term.t.Helper()
	term.tmux("resize-window", "-x", fmt.Sprint(columns), "-y", fmt.Sprint(lines))
}

// Run types a command. When it has ended, the screen shows "status" and its status, and a message if stty(1) does not report the same
// modes as before.
func (term *Terminal) Run(command string) {
	term.t.Helper()
	script := write(term.t, term.folder, "command", "before=$(stty -g)\n"+command+"\nstatus=$?\n"+
		"[ \"$before\" = \"$(stty -g)\" ] || echo 'the terminal is another'\necho status $status\n")
	term.Type("sh " + script)
	term.Press("Enter")
}

// pollEvery is how often Until reads the screen. Each time starts a process, which takes time from the tested program.
const pollEvery = 100 * time.Millisecond

// Until waits until check returns nil.
func (term *Terminal) Until(check func(screen string) error) {
	term.t.Helper()
	for end := time.Now().Add(deadline); ; time.Sleep(pollEvery) {
		err := check(term.Screen())
		if err == nil {
			return
		}
		if time.Now().After(end) {
			term.t.Fatal(err)
		}
	}
}

// Has checks that a screen has all of the texts.
func Has(texts ...string) func(screen string) error {
	return func(screen string) error {
		for _, text := range texts {
			if !strings.Contains(screen, text) {
				return fmt.Errorf("no %q on the screen", text)
			}
		}
		return nil
	}
}

// HasNot checks that a screen does not have the text.
func HasNot(text string) func(screen string) error {
	return func(screen string) error {
		if strings.Contains(screen, text) {
			return fmt.Errorf("%q on the screen", text)
		}
		return nil
	}
}

// MustBeBack waits until a command has ended with a status, and checks that the terminal is as before: its modes, its cursor, and its
// screen, which had the texts.
func (term *Terminal) MustBeBack(status int, texts ...string) {
	term.t.Helper()
	term.Until(Has(append(texts, fmt.Sprint("status ", status), prompt[:len(prompt)-1])...))
	if strings.Contains(term.Screen(), "the terminal is another") {
		term.t.Error("the terminal has other modes than before")
	}
	if term.Is("alternate_on") || !term.Is("cursor_flag") || term.Is("mouse_any_flag") {
		term.t.Error("the terminal has another screen, no cursor, or a mouse")
	}
}

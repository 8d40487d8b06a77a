package top

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/gdamore/tcell/v3"
	"github.com/gdamore/tcell/v3/color"

	"promflow/telemetry/talkers"
)

// refreshEvery is the time between two questions. It is less than that between readings, so that none is seen late.
const refreshEvery = time.Second

// Show takes the terminal, and shows what is asked until the user leaves or ctx ends. The terminal is then as it was, after an error
// or a panic, too. What was logged meanwhile comes from warnings, which may be nil.
func Show(ctx context.Context, o Options, ask Ask, warnings func() []string) (err error) {
	// Nothing is asked of the terminal, whose answers might come when the shell reads again: what is drawn is in each of them.
	screen, err := tcell.NewTerminfoScreen(tcell.OptNegotiation(false), tcell.OptSanitizeContent(true))
	if err == nil {
		err = screen.Init()
	}
	if err != nil {
		return fmt.Errorf("no terminal to draw on (--plain prints text): %w", err)
	}
	defer screen.Fini()
	ctx, cancel := signal.NotifyContext(ctx, syscall.SIGHUP) // which would end the program with the terminal as it is
	defer cancel()
	v := &view{Model: NewModel(o), screen: screen, ask: ask, answers: make(chan answer, 1)}
	v.Tick(time.Now())
	v.Resize(screen.Size())
	tick := time.NewTicker(refreshEvery)
	defer tick.Stop()
	v.refresh(ctx)
	for {
		v.draw()
		select {
		case <-ctx.Done():
			return nil
		case event := <-screen.EventQ():
			if quit, err := v.handle(event); quit || err != nil {
				return err
			}
			if q := v.Query(); q != v.asked {
				v.refresh(ctx)
			}
		case a := <-v.answers:
			v.take(a)
			if q := v.Query(); q != v.asked {
				v.refresh(ctx)
			}
		case now := <-tick.C:
			v.Tick(now)
			if warnings != nil {
				for _, text := range warnings() {
					v.Warn(text)
				}
			}
			v.refresh(ctx)
		}
	}
}

// view is a Model on a screen.
type view struct {
	*Model
	screen  tcell.Screen
	ask     Ask
	asked   talkers.Query // last
	asking  bool          // the answer is yet to come
	answers chan answer
}

type answer struct {
	to     talkers.Query
	report *talkers.Report
	err    error
	panic  string // and where
}

// refresh asks, unless an answer is yet to come.
func (v *view) refresh(ctx context.Context) {
	if v.asking {
		return
	}
	q := v.Query()
	v.asked, v.asking = q, true
	go func() {
		a := answer{to: q}
		defer func() {
			if p := recover(); p != nil { // it is the terminal's owner who panics, who restores it
				a.panic = fmt.Sprintf("%v\n\n%s", p, debug.Stack())
			}
			v.answers <- a
		}()
		a.report, a.err = v.ask(ctx, q)
	}()
}

// take takes an answer.
func (v *view) take(a answer) {
	v.asking = false
	v.Tick(time.Now())
	switch {
	case a.panic != "":
		panic(a.panic)
	case a.err != nil:
		v.Fail(a.err)
	default:
		v.Answer(a.to, a.report)
	}
}

// handle takes what happened on the terminal.
func (v *view) handle(event tcell.Event) (quit bool, err error) {
	switch e := event.(type) {
	case nil:
		return true, nil // there is no terminal any more
	case *tcell.EventError:
		return false, fmt.Errorf("reading the terminal: %w", e)
	case *tcell.EventResize:
		v.Resize(e.Size())
		v.screen.Sync()
	case *tcell.EventKey:
		return v.Press(keyOf(e)), nil
	}
	return false, nil
}

var keyNames = map[tcell.Key]string{
	tcell.KeyUp: Up, tcell.KeyDown: Down, tcell.KeyPgUp: PageUp, tcell.KeyPgDn: PageDown, tcell.KeyHome: Home, tcell.KeyEnd: End,
	tcell.KeyEnter: Enter, tcell.KeyEscape: Escape, tcell.KeyBackspace: Backspace, tcell.KeyBackspace2: Backspace,
	tcell.KeyCtrlC: ControlC, tcell.KeyCtrlU: ControlU,
}

func keyOf(e *tcell.EventKey) Key {
	if e.Key() == tcell.KeyRune {
		if e.Modifiers()&(tcell.ModAlt|tcell.ModCtrl|tcell.ModMeta) != 0 {
			return Key{}
		}
		return Key{Text: e.Str()}
	}
	return Key{Name: keyNames[e.Key()]}
}

var styles = map[Style]tcell.Style{
	Bold:    tcell.StyleDefault.Bold(true),
	Reverse: tcell.StyleDefault.Reverse(true),
	Alarm:   tcell.StyleDefault.Bold(true).Foreground(color.Maroon), // the first red: the terminal knows which can be read
}

// styleOf gives a style as the terminal has it. The zero Style is the terminal's own.
func (v *view) styleOf(s Style) tcell.Style {
	if s == Alarm && v.screen.Colors() == 0 { // a colour would be made black or white
		s = Bold
	}
	return styles[s]
}

func (v *view) draw() {
	v.screen.Clear()
	for y, line := range v.View() {
		v.screen.PutStrStyled(0, y, line.Text, v.styleOf(line.Style))
	}
	if x, y, visible := v.Cursor(); visible {
		v.screen.ShowCursor(x, y)
	} else {
		v.screen.HideCursor()
	}
	v.screen.Show()
}

// Drawable tells whether the terminal that the environment describes can be drawn on.
func Drawable() bool {
	term := os.Getenv("TERM")
	return term != "dumb" && (term != "" || runtime.GOOS == "windows")
}

// ASCII tells whether the environment's locale has no more than that: it is not one of UTF-8. Nor is the one where nothing is said
// (locale(7): LC_ALL, then LC_CTYPE, then LANG).
func ASCII() bool {
	if runtime.GOOS == "windows" {
		return false // the console takes UTF-16
	}
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if locale := strings.ToLower(os.Getenv(name)); locale != "" {
			return !strings.Contains(locale, "utf-8") && !strings.Contains(locale, "utf8")
		}
	}
	return true
}

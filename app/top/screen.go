package top

import (
	"cmp"
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

	"promflow/telemetry/talkers"
)

// refreshEvery is the time between two queries. It is shorter than the time between readings, so that no reading is shown late.
const refreshEvery = time.Second

// Show draws reports on the terminal until the user quits or ctx ends. It then restores the terminal, also after an error or a panic.
// warnings returns what was logged since the last call; it may be nil.
func Show(ctx context.Context, o Options, ask Ask, warnings func() []string) (err error) {
	// No queries to the terminal: an answer might arrive after the end, as input of the shell. All terminals have what is drawn here.
	screen, err := tcell.NewTerminfoScreen(tcell.OptNegotiation(false), tcell.OptSanitizeContent(true))
	if err == nil {
		err = screen.Init()
	}
	if err != nil {
		return fmt.Errorf("no terminal to draw on (--plain prints text): %w", err)
	}
	defer func() {
		screen.Suspend() // Fini alone would wait for ever for a reader that has more events
		screen.Fini()
	}()
	ctx, cancel := signal.NotifyContext(ctx, syscall.SIGHUP) // else SIGHUP would end the program without restoring the terminal
	defer cancel()
	job := newJob()
	defer job.close()
	v := &view{Model: NewModel(o), screen: screen, job: job, ask: ask, answers: make(chan answer, 1)}
	v.Tick(time.Now())
	v.Resize(screen.Size())
	events := relay(ctx, screen.EventQ())
	tick := time.Tick(refreshEvery)
	for {
		if v.Query() != v.asked {
			v.refresh(ctx)
		}
		v.draw()
		select {
		case <-ctx.Done():
			return nil
		case event := <-events:
			if quit, err := v.handle(ctx, event); quit || err != nil {
				return err
			}
		case s := <-job.signals:
			if err := v.suspend(ctx, s); err != nil {
				return err
			}
		case a := <-v.answers:
			v.take(a)
		case now := <-tick:
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

// relay passes events on, without keys that come faster than they are handled, as in a long paste. tcell waits for room for an event, also as it
// leaves the terminal, when nothing handles them.
func relay(ctx context.Context, from <-chan tcell.Event) <-chan tcell.Event {
	to := make(chan tcell.Event, 128)
	go func() {
		defer close(to)
		for event := range from {
			if _, is := event.(*tcell.EventKey); is && len(to) == cap(to) {
				continue
			}
			select {
			case to <- event:
			case <-ctx.Done(): // to leave, too
			}
		}
	}()
	return to
}

// view is a Model on a screen.
type view struct {
	*Model
	screen  tcell.Screen
	job     *job
	resumed time.Time // a Ctrl-Z that is still to be handled from before this has had its effect
	ask     Ask
	asked   talkers.Query // the last query
	asking  bool          // its answer is still to come
	answers chan answer
}

type answer struct {
	to     talkers.Query
	report *talkers.Report
	err    error
	panic  string // the value and the stack
}

// refresh sends the query, unless an answer is still to come.
func (v *view) refresh(ctx context.Context) {
	if v.asking {
		return
	}
	v.asked, v.asking = v.Query(), true
	a := answer{to: v.asked}
	go func() {
		defer func() {
			if p := recover(); p != nil { // Show panics with it, after restoring the terminal
				a.panic = fmt.Sprintf("%v\n\n%s", p, debug.Stack())
			}
			v.answers <- a
		}()
		a.report, a.err = v.ask(ctx, a.to)
	}()
}

// take puts an answer into the model.
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

// suspend leaves the terminal to the shell, and draws again once the shell has continued this process. It is called for a signal of the shell,
// and with nil for a key. After a signal that cannot be caught (SIGSTOP) only the one that continues comes; meanwhile the shell has set other
// modes. In the background, the kernel stops what sets modes until it is in the foreground.
func (v *view) suspend(ctx context.Context, s os.Signal) (err error) {
	stops := s == nil || !continues(s)
	if ctx.Err() != nil || stops && !v.job.isControlled() {
		return nil
	}
	if err = v.screen.Suspend(); err != nil {
		return fmt.Errorf("leaving the terminal: %w", err)
	}
	if s == nil {
		err = v.job.stopAll(ctx)
	}
	if stops && err == nil {
		err = v.job.stop(ctx)
	}
	if err == nil && ctx.Err() == nil {
		v.resumed = time.Now()
		err = v.screen.Resume()
	}
	if err != nil {
		return fmt.Errorf("suspending: %w", err)
	}
	v.Tick(time.Now())
	v.Resize(v.screen.Size())
	v.screen.Sync()
	return nil
}

// handle processes an event of the terminal.
func (v *view) handle(ctx context.Context, event tcell.Event) (quit bool, err error) {
	switch e := event.(type) {
	case nil:
		return true, nil // the terminal is gone
	case *tcell.EventError:
		return false, fmt.Errorf("reading the terminal: %w", e)
	case *tcell.EventResize:
		v.Resize(e.Size())
		v.screen.Sync()
	case *tcell.EventKey:
		if e.Key() == tcell.KeyCtrlZ {
			if e.When().Before(v.resumed) {
				return false, nil
			}
			return false, v.suspend(ctx, nil)
		}
		if e.Key() != tcell.KeyRune {
			return v.Press(Key{Name: tcell.KeyNames[e.Key()]}), nil
		}
		if e.Modifiers()&(tcell.ModAlt|tcell.ModCtrl|tcell.ModMeta) == 0 {
			return v.Press(Key{Text: e.Str()}), nil
		}
	}
	return false, nil
}

func (v *view) draw() {
	v.screen.Clear()
	for y, line := range v.View() {
		if line.Style == alarm && v.screen.Colors() == 0 { // tcell would make the color black or white
			line.Style = bold
		}
		v.screen.PutStrStyled(0, y, line.Text, line.Style)
	}
	if x, y, visible := v.Cursor(); visible {
		v.screen.ShowCursor(x, y)
	} else {
		v.screen.HideCursor()
	}
	v.screen.Show()
}

// Drawable tells whether the environment describes a terminal that can be drawn on.
func Drawable() bool {
	term := os.Getenv("TERM")
	return term != "dumb" && (term != "" || runtime.GOOS == "windows")
}

// ASCII tells whether the locale is not UTF-8, and output must be ASCII. It looks at LC_ALL, then LC_CTYPE, then LANG (locale(7)); if none
// is set, the locale is not UTF-8.
func ASCII() bool {
	if runtime.GOOS == "windows" {
		return false // the console takes UTF-16
	}
	locale := strings.ToLower(cmp.Or(os.Getenv("LC_ALL"), os.Getenv("LC_CTYPE"), os.Getenv("LANG")))
	return !strings.Contains(locale, "utf-8") && !strings.Contains(locale, "utf8")
}

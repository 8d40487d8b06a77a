package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	requests "github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"promflow/capture/nettest"
)

// browser is a Chromium in a network namespace: what is not in there, it does not reach.
type browser struct {
	t   *testing.T
	ctx context.Context
}

func newBrowser(t *testing.T, ns *nettest.Namespace) *browser {
	t.Helper()
	nettest.Need(t, "chromium")
	inside := func(cmd *exec.Cmd) { // it talks through pipes, which lead out of the namespace
		in := ns.Command(append([]string{cmd.Path}, cmd.Args[1:]...)...)
		cmd.Path, cmd.Args = in.Path, in.Args
	}
	options := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath("chromium"), chromedp.ModifyCmdFunc(inside), chromedp.UserDataDir(t.TempDir()),
	}
	for _, flag := range []string{"headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
		"disable-component-update", "disable-sync", "hide-scrollbars"} {
		options = append(options, chromedp.Flag(flag, true))
	}
	allocator, end := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(end)
	ctx, closes := chromedp.NewContext(allocator)
	t.Cleanup(closes)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("starting chromium: %v", err)
	}
	return &browser{t, ctx}
}

// tab is a page in a browser, with settings of its own. What a page must not do fails its test at the end: to complain on the console,
// or to ask anybody but who it came from.
type tab struct {
	t      *testing.T
	ctx    context.Context
	origin string

	mu      sync.Mutex
	wrong   []string
	allowed string   // what may be part of a complaint
	asked   []string // what was asked for
}

// screen is what a page is seen on.
type screen struct {
	width, height int64
	dark          bool
}

var (
	desktop     = screen{1280, 900, false}
	desktopDark = screen{1280, 900, true}
	phone       = screen{375, 800, false}
	phoneDark   = screen{375, 800, true}
)

// open opens a page, and waits until it has loaded.
func (b *browser) open(t *testing.T, at string, on screen) *tab {
	t.Helper()
	origin, err := url.Parse(at)
	if err != nil {
		t.Fatal(err)
	}
	p := &tab{t: t, origin: origin.Scheme + "://" + origin.Host}
	var closes context.CancelFunc
	p.ctx, closes = chromedp.NewContext(b.ctx, chromedp.WithNewBrowserContext(), chromedp.WithListener(p.hear))
	t.Cleanup(func() {
		closes()
		for _, wrong := range p.complaints() {
			t.Errorf("the page %s", wrong)
		}
	})
	p.show(on)
	p.do(chromedp.Navigate(at))
	return p
}

// show changes the screen.
func (p *tab) show(on screen) {
	p.t.Helper()
	scheme := "light"
	if on.dark {
		scheme = "dark"
	}
	features := []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}}
	p.do(chromedp.EmulateViewport(on.width, on.height), call(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: features}))
}

// call is an action that is a command without an answer.
func call[P, R any](command cdp.Command[P, R], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, command, params)
		return err
	})
}

// hear keeps what a page must not do.
func (p *tab) hear(event any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	wrong := ""
	switch e := event.(type) {
	case *log.EventEntryAdded:
		wrong = fmt.Sprintf("has in its log: %s: %s %s", e.Entry.Level, e.Entry.Text, e.Entry.URL)
	case *runtime.EventConsoleAPICalled:
		text, _ := json.Marshal(e.Args)
		wrong = fmt.Sprintf("says on the console: %s %s", e.Type, text)
	case *runtime.EventExceptionThrown:
		wrong = fmt.Sprintf("has an exception: %s", (&chromedp.ExceptionError{ExceptionDetails: e.ExceptionDetails}).Error())
	case *requests.EventRequestWillBeSent:
		p.asked = append(p.asked, e.Request.URL)
		if at, err := url.Parse(e.Request.URL); err != nil || at.Scheme+"://"+at.Host != p.origin {
			wrong = "asks for " + e.Request.URL
		}
	case *page.EventJavascriptDialogOpening:
		wrong = "opens a dialog: " + e.Message
	}
	if wrong != "" && (p.allowed == "" || !strings.Contains(wrong, p.allowed)) {
		p.wrong = append(p.wrong, wrong)
	}
}

// allow lets complaints be that have this text.
func (p *tab) allow(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.allowed = text
}

// complaints gives what was wrong, and forgets it.
func (p *tab) complaints() (wrong []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	wrong, p.wrong = p.wrong, nil
	return wrong
}

// questions tells how often an address with this in it was asked for.
func (p *tab) questions(with string) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, asked := range p.asked {
		if strings.Contains(asked, with) {
			n++
		}
	}
	return n
}

// do does things one after the other.
func (p *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, deadline)
	defer cancel()
	// The first one on a tab opens it, which must not be for as long as it takes only.
	if chromedp.FromContext(p.ctx).Target == nil {
		ctx = p.ctx
	}
	if err := chromedp.Do(ctx, steps...); err != nil {
		p.t.Fatal(err)
	}
}

// press presses keys, as kb names those that are no characters.
func (p *tab) press(keys ...string) {
	p.t.Helper()
	for _, key := range keys {
		p.pressWith(0, key)
	}
}

// pressWith presses one key while others are held.
func (p *tab) pressWith(held chromedp.Modifier, key string) {
	p.t.Helper()
	for _, event := range kb.Encode([]rune(key)[0]) {
		switch event.Type {
		case kb.KeyChar: // a page can keep a key from being a character, as this is part of the same event
			continue
		case kb.KeyDown:
			if held == 0 {
				event.Text = kb.Keys[[]rune(key)[0]].Text
			}
		}
		event.Modifiers |= int64(held)
		p.do(call(input.DispatchKeyEvent, *event))
	}
}

// click clicks where a selector's first element is.
func (p *tab) click(selector string) {
	p.t.Helper()
	p.do(chromedp.Click(chromedp.CSS(selector)))
}

// evaluate gives what an expression or a promise comes to. Arguments are what its verbs %v stand for, in JavaScript.
func evaluate[T any](p *tab, expression string, args ...any) (value T) {
	p.t.Helper()
	value, err := tryEvaluate[T](p, expression, args...)
	if err != nil {
		p.t.Fatalf("%s: %v", expression, err)
	}
	return value
}

func tryEvaluate[T any](p *tab, expression string, args ...any) (value T, err error) {
	p.t.Helper()
	for i, arg := range args {
		text, err := json.Marshal(arg)
		if err != nil {
			return value, err
		}
		args[i] = string(text)
	}
	ctx, cancel := context.WithTimeout(p.ctx, deadline)
	defer cancel()
	return chromedp.Run(ctx, chromedp.Evaluate[T](fmt.Sprintf(expression, args...), chromedp.EvalAwaitPromise))
}

// text gives the text of a selector's first element, with spaces as they are in source.
func (p *tab) text(selector string) string {
	p.t.Helper()
	return strings.ReplaceAll(evaluate[string](p, `document.querySelector(%v)?.textContent ?? ""`, selector), "\u00a0", " ")
}

// texts gives the texts of all of a selector's elements.
func (p *tab) texts(selector string) []string {
	p.t.Helper()
	return evaluate[[]string](p, `[...document.querySelectorAll(%v)].map((e) => e.textContent.replaceAll("\u00a0", " "))`, selector)
}

// has waits until an element has a text as part of it.
func (p *tab) has(selector, text string) {
	p.t.Helper()
	eventually(p.t, func() error {
		if got := p.text(selector); !strings.Contains(got, text) {
			return fmt.Errorf("%s is %q, want %q", selector, got, text)
		}
		return nil
	})
}

// screenshot gives what is seen, as PNG.
func (p *tab) screenshot() []byte {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, deadline)
	defer cancel()
	png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err != nil {
		p.t.Fatal(err)
	}
	return png
}

// axe is the path of axe-core, which finds what makes a page inaccessible. It is read before TestMain takes it away.
var axe = os.Getenv("PROMFLOW_TEST_AXE")

// audit has axe-core look at the page as it is, by the rules of WCAG 2.2 A and AA, and what is held to be good practice.
func (p *tab) audit(what string) {
	p.t.Helper()
	if !evaluate[bool](p, `"axe" in window`) {
		script, err := os.ReadFile(axe)
		if err != nil {
			p.t.Fatal(err)
		}
		if err := chromedp.Do(p.ctx, chromedp.Evaluate[chromedp.Void](string(script))); err != nil {
			p.t.Fatal(err)
		}
	}
	violations := evaluate[[]string](p, `axe.run({ rules: { "target-size": { enabled: true } } }).then((r) => r.violations.flatMap((v) => v.nodes.map((n) =>
		v.id + ": " + n.html + ": " + n.failureSummary)))`)
	for _, v := range violations {
		p.t.Errorf("%s: %s", what, v)
	}
}

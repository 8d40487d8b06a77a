package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sync/errgroup"
	"golang.org/x/term"

	"promflow/app/check"
	"promflow/app/live"
	"promflow/app/top"
	"promflow/telemetry/talkers"
)

// viewing is what flags and variables say of promflow top, beside what they say of the capture.
type viewing struct {
	query  talkers.Query
	bytes  bool
	plain  bool
	output string
	count  int // of reports; -1: not given
	http   clientFile

	c       *config
	own     settings
	capture settings // those of c that are for a capture of its own
}

// settings lists what can be set of v, which gets the defaults.
func (v *viewing) settings() settings {
	v.count = -1
	return settings{
		{category: "Top", name: "sort", holder: "ORDER", byDefault: talkers.Sorts[0], chosen: &v.query.Sort, choices: talkers.Sorts,
			usage: "what addresses are sorted by: " + strings.Join(talkers.Sorts, ", ")},
		{category: "Top", name: "reverse", byDefault: "false", parse: boolean(&v.query.Reverse),
			usage: "the lowest first, and names from Z to A"},
		{category: "Top", name: "filter", holder: "TEXT", parse: filter(&v.query.Filter),
			usage: "only addresses in this subnet, or that contain this, or whose name does"},
		{category: "Top", name: "bytes", byDefault: "false", parse: boolean(&v.bytes),
			usage: "rates in bytes a second, not in bits"},
		{category: "Text", name: "plain", byDefault: "false", parse: boolean(&v.plain),
			usage: "print text instead of drawing on the terminal, as is done where there is none"},
		{category: "Text", name: "output", holder: "FORMAT", byDefault: "text", chosen: &v.output, choices: []string{"text", "json"},
			usage: "text, or json for scripts: one object in a line for each report. It draws nothing"},
		{category: "Text", name: "count", holder: "N", otherwise: "1", parse: number(&v.count, 0, 1<<30),
			usage: "how many reports to print, each once there are rates, then every 2 s; 0 is without end. It draws nothing"},
		{category: "Text", name: "limit", holder: "N", byDefault: strconv.Itoa(talkers.DefaultLimit), parse: number(&v.query.Limit, 1, talkers.MaxLimit),
			usage: "how many addresses a report has, 1000 at most"},
		v.http.setting("Connection"),
	}.withDefaults()
}

// filter parses what a query may have.
func filter(dst *string) func(string) error {
	return func(s string) error {
		if _, err := talkers.ParseQuery(url.Values{"filter": {s}}); err != nil {
			return errors.New("expected at most 253 bytes of UTF-8")
		}
		*dst = s
		return nil
	}
}

// topCommand is promflow top.
func topCommand(c *config) *cli.Command {
	v := &viewing{c: c}
	v.capture = c.all.named("interface", "wait-interface", "capture", "promiscuous", "monitor-subnets", "exclude-subnets", "max-ips",
		"expire-after", "aggregate", "aggregate6", "host-info", "lease-files", "reverse-dns", "user")
	v.own = v.settings()
	return &cli.Command{
		Name:      "top",
		Usage:     "show live who moves how much",
		UsageText: "promflow top [flags] [URL]\n   promflow top [flags] --interface=NAME",
		Description: `Asks the promflow at a URL, such as http://router:9088 or just router, by default http://localhost:9088. With the flag
--interface it asks nobody: it captures by itself, as promflow would, but serves nothing. The variable PROMFLOW_INTERFACE does
not decide that, so that top in a container asks the promflow that runs there. Flags for capturing are for that only.

On a terminal it draws until q is pressed (? shows the keys); elsewhere it prints one report as text.`,
		CustomHelpTemplate: helpTemplate,
		HideHelpCommand:    true,
		Flags:              append(slices.Clone(v.own), v.capture...).flags(),
		OnUsageError:       usageError,
		Action:             func(ctx *cli.Context) error { return v.run(ctx.Context, ctx.Args().Slice()) },
	}
}

// run finds out who is to be asked, and shows what he says.
func (v *viewing) run(ctx context.Context, args []string) error {
	if err := v.c.all.refuse(v.capture); err != nil {
		return err
	}
	for i, arg := range args {
		if i > 0 {
			return fmt.Errorf("top: unexpected %q: it takes one URL, and flags come before it", arg)
		}
	}
	if err := v.own.resolve(); err != nil {
		return err
	}
	if v.c.all.named("interface")[0].given {
		switch {
		case len(args) > 0:
			return fmt.Errorf("top: %q and --interface exclude each other: either another promflow is asked, or packets are counted here", args[0])
		case v.own.named("http-config-file")[0].given:
			return errors.New("--http-config-file is for asking another promflow, and --interface counts here")
		}
		if err := v.capture.resolve(); err != nil {
			return err
		}
		return v.here(ctx)
	}
	for _, each := range v.capture {
		if each.given {
			return fmt.Errorf("--%s means nothing without --interface: the promflow that is asked counts as it was told", each.name)
		}
	}
	return v.there(ctx, args)
}

// draws tells whether there is a terminal to draw on, and text is not asked for.
func (v *viewing) draws() bool {
	return !v.plain && v.output == "text" && v.count < 0 && term.IsTerminal(int(os.Stdout.Fd())) && top.Drawable()
}

func (v *viewing) options(watched string) top.Options {
	count := v.count
	if count < 0 {
		count = 1
	}
	return top.Options{Watched: watched, Query: v.query, Bytes: v.bytes, ASCII: top.ASCII(), JSON: v.output == "json", Count: count}
}

// there asks a promflow that runs.
func (v *viewing) there(ctx context.Context, args []string) error {
	r := remote{standard: len(args) == 0}
	address := "localhost"
	if !r.standard {
		address = args[0]
	}
	var err error
	if r.base, err = parseBase(address); err != nil {
		return fmt.Errorf("top: %q: %w", address, err)
	}
	if r.client, err = v.http.client(); err != nil {
		return err
	}
	shown := *r.base
	shown.User = nil
	o := v.options(shown.String())
	if !v.draws() {
		return topError(top.Print(ctx, os.Stdout, o, r.ask))
	}
	switch _, err := r.ask(ctx, o.Query); { // what is wrong from the begin is not for the screen
	case ctx.Err() != nil:
		return nil
	case err != nil:
		return topError(err)
	}
	return topError(top.Show(ctx, o, r.ask, nil))
}

func topError(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("top: %w", err)
}

// defaultPort is the one of --metrics-address.
const defaultPort = "9088"

// parseBase reads where a promflow is: a URL or, without http://, a host with or without a port.
func parseBase(text string) (*url.URL, error) {
	const expected = "expected a URL such as http://router:9088, or a host"
	address, hasScheme := text, strings.Contains(text, "://")
	if !hasScheme {
		if a, err := netip.ParseAddr(text); err == nil && a.Is6() {
			address = "[" + strings.Replace(text, "%", "%25", 1) + "]" // a zone, as RFC 6874 writes it
		}
		address = "http://" + address
	}
	base, err := url.Parse(address)
	switch {
	case err != nil:
		return nil, errors.New(expected) // which does not say what is wrong, but what it says could be a password
	case base.Scheme != "http" && base.Scheme != "https", base.Hostname() == "", base.RawQuery != "", base.Fragment != "":
		return nil, errors.New(expected)
	}
	if !hasScheme && base.Port() == "" {
		base.Host = net.JoinHostPort(base.Hostname(), defaultPort)
	}
	return base, nil
}

// remote is a promflow elsewhere.
type remote struct {
	base     *url.URL
	standard bool // nobody named it
	client   *http.Client
}

// askTimeout is how long an answer may take.
const askTimeout = 5 * time.Second

func (r remote) ask(ctx context.Context, q talkers.Query) (*talkers.Report, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	report, err := talkers.Fetch(ctx, r.client, r.base, q)
	if err != nil {
		return nil, r.explain(err)
	}
	return report, nil
}

// explain says what went wrong, and what its user can do.
func (r remote) explain(err error) error {
	var failed *url.Error
	if !errors.As(err, &failed) {
		return errors.New(top.Clean(err.Error())) // it is the answer's, whoever gave it
	}
	err = failed.Err // which has not the whole question in it
	var (
		dial      *net.OpError
		lookup    *net.DNSError
		untrusted *tls.CertificateVerificationError
	)
	hint := ""
	if errors.As(err, &dial) && dial.Op == "dial" {
		err = dial.Err // without the address, which is known
	}
	switch {
	case errors.As(err, &untrusted):
		hint = " (--http-config-file can name who signs: tls_config, ca_file)"
	case errors.Is(err, context.DeadlineExceeded):
		err = fmt.Errorf("no answer in %v: %w", askTimeout, err)
	case errors.As(err, &lookup): // says it all
	case dial != nil && dial.Op == "dial" && r.standard:
		hint = ": name the promflow to ask, as in promflow top http://router:9088, or count here, as in promflow top --interface=eth0"
	case dial != nil && dial.Op == "dial":
		hint = ": does promflow run there, and serve on that port? By default it is " + defaultPort
	}
	return fmt.Errorf("%s: %w%s", r.base.Redacted(), err, hint)
}

// here captures what c says, and shows it.
func (v *viewing) here(ctx context.Context) (err error) {
	var kept check.Log // which must not tear what is drawn
	log := kept.Logger()
	if !v.draws() {
		v.c.logLevel = slog.LevelWarn
		log = v.c.logger(os.Stderr)
	}
	live, err := live.Open(v.c.live(v.c.table(v.c.expireAfter), log))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, live.Close()) }()
	live.WarnOfDetours()
	v.c.explainLabels(log)
	if err := v.c.dropPrivileges(live.Keeps(), log); err != nil {
		return err
	}
	names, err := openNames(v.c, log)
	if err != nil {
		return err
	}
	counted := talkers.New(live.Monitor(names.info()).Read)
	ask := func(_ context.Context, q talkers.Query) (*talkers.Report, error) { return counted.Report(q), nil }
	o := v.options("")
	if !v.draws() {
		return alongside(ctx, func(ctx context.Context) error { return topError(top.Print(ctx, os.Stdout, o, ask)) }, live.Run, names.run, counted.Run)
	}
	var warned []string
	warnings := func() []string {
		some := kept.Take()
		warned = append(warned, some...)
		warned = warned[max(len(warned)-maxWarned, 0):]
		return some
	}
	err = alongside(ctx, func(ctx context.Context) error { return topError(top.Show(ctx, o, ask, warnings)) }, live.Run, names.run, counted.Run)
	warnings()
	repeat(os.Stderr, warned)
	return err
}

// maxWarned is how many warnings are repeated at the end.
const maxWarned = 20

// repeat prints what was logged while the terminal was drawn on.
func repeat(w io.Writer, lines []string) {
	for _, line := range lines {
		fmt.Fprintln(w, "promflow: warning:", line)
	}
}

// alongside does jobs while main goes on, whose end ends them; that of a job, if it is an error, ends main. A job that panics does
// so once main has ended, which has a terminal to give back.
func alongside(ctx context.Context, main func(context.Context) error, jobs ...func(context.Context) error) error {
	all, ctx := errgroup.WithContext(ctx)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	panics := make(chan string, len(jobs))
	for _, job := range jobs {
		all.Go(func() (err error) {
			defer func() {
				if p := recover(); p != nil {
					panics <- fmt.Sprintf("%v\n\n%s", p, debug.Stack())
					cancel()
				}
			}()
			return job(ctx)
		})
	}
	err := main(ctx)
	cancel()
	err = errors.Join(err, all.Wait())
	select {
	case p := <-panics:
		panic(p)
	default:
		return err
	}
}

package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
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

// viewing holds the values of the flags that only top has.
type viewing struct {
	query  talkers.Query
	bytes  bool
	plain  bool
	output string
	count  int      // of reports; -1: not given
	http   *setting // the file of the HTTP client
}

// settings returns these flags, and sets v to their defaults.
func (v *viewing) settings() settings {
	v.count, v.http = -1, httpConfigFile("Connection")
	return settings{
		{category: "Top", name: "by", holder: "WHAT", byDefault: talkers.ByIP, text: &v.query.By, choices: talkers.Groupings,
			usage: "what a row is: ip for an address, or device for all addresses of a MAC, which are known with --host-info"},
		{category: "Top", name: "sort", holder: "ORDER", byDefault: talkers.Sorts[0], text: &v.query.Sort, choices: talkers.Sorts,
			usage: "the order of rows: " + strings.Join(talkers.Sorts, ", ")},
		{category: "Top", name: "reverse", byDefault: "false", parse: boolean(&v.query.Reverse),
			usage: "reverse the order: the lowest first, and names from Z to A"},
		{category: "Top", name: "filter", holder: "TEXT", parse: into(&v.query.Filter, parseFilter),
			usage: "show only addresses in this subnet, or those that contain this text in the address or name"},
		{category: "Top", name: "bytes", byDefault: "false", parse: boolean(&v.bytes),
			usage: "rates in bytes a second, not in bits"},
		{category: "Text", name: "plain", byDefault: "false", parse: boolean(&v.plain),
			usage: "print text even on a terminal, instead of drawing on it"},
		{category: "Text", name: "output", holder: "FORMAT", byDefault: "text", text: &v.output, choices: []string{"text", "json"},
			usage: "text, or json for scripts: one object in a line for each report, and no drawing"},
		{category: "Text", name: "count", holder: "N", otherwise: "1", parse: number(&v.count, 0, 1<<30),
			usage: "how many reports to print instead of drawing: the first once there are rates, then one every 2 s; 0 is without end"},
		{category: "Text", name: "limit", holder: "N", byDefault: strconv.Itoa(talkers.DefaultLimit), parse: number(&v.query.Limit, 1, talkers.MaxLimit),
			usage: "how many rows a report has, 1000 at most"},
		v.http,
	}.withDefaults()
}

// parseFilter checks a filter as the server of a query does.
func parseFilter(s string) (string, error) {
	_, err := talkers.ParseQuery(url.Values{"filter": {s}})
	if err != nil {
		err = errors.New("expected at most 253 bytes of UTF-8")
	}
	return s, err
}

// topCommand is promflow top.
func topCommand(c *config) *cli.Command {
	v := new(viewing)
	own := v.settings()
	capture := c.all.named("interface", "wait-interface", "capture", "promiscuous", "mirror", "netflow-address", "sflow-address", "flow-exporters",
		"flow-direction", "sampling-rate", "monitor-subnets", "exclude-subnets", "max-ips",
		"expire-after", "aggregate", "aggregate6", "host-info", "names-file", "lease-files", "reverse-dns",
		"reverse-dns-rate", "mdns", "user")
	return &cli.Command{
		Name:      "top",
		Usage:     "show the top talkers live",
		UsageText: "promflow top [flags] [URL]\n   promflow top [flags] --interface=NAME",
		Description: `Asks the promflow at a URL, such as http://router:9088 or just router, by default http://localhost:9088. With the flag
--interface, or --capture=netflow or sflow, it counts by itself instead, and serves nothing. Their variables do not make it do
so: in a container top asks the promflow that runs there. The other flags for counting need one of these two.

On a terminal it draws until q is pressed (? shows the keys); elsewhere it prints one report as text.`,
		Flags: append(slices.Clone(own), capture...).flags(),
		Action: func(ctx *cli.Context) error {
			if err := errors.Join(tooMany(ctx, 1, oneURL), c.all.refuse(capture), own.resolve()); err != nil {
				return err
			}
			here := ""
			if c.all.named("interface")[0].IsSet() {
				here = "--interface"
			} else if c.all.named("capture")[0].IsSet() && live.CollectsFlows(c.backend) {
				here = "--capture=" + c.backend
			}
			if here == "" {
				for _, each := range capture {
					if each.IsSet() {
						return fmt.Errorf("--%s means nothing without --interface: the promflow that is asked has settings of its own", each.name)
					}
				}
				return v.there(ctx.Context, ctx.Args().Slice())
			}
			switch {
			case ctx.Args().Present():
				return fmt.Errorf("top: %q and %s exclude each other: either another promflow is asked, or packets are counted here",
					ctx.Args().First(), here)
			case v.http.IsSet():
				return errors.New("--http-config-file is for asking another promflow, and " + here + " counts here")
			}
			if err := capture.resolve(); err != nil {
				return err
			}
			return v.here(ctx.Context, c)
		},
	}
}

// draws reports whether top draws on the terminal; else it prints.
func (v *viewing) draws() bool {
	return !v.plain && v.output == "text" && v.count < 0 && term.IsTerminal(int(os.Stdout.Fd())) && top.Drawable()
}

// show draws or prints what ask answers. watched is the URL that is asked, if any.
func (v *viewing) show(ctx context.Context, watched string, ask top.Ask, warnings func() []string) (err error) {
	o := top.Options{Watched: watched, Query: v.query, Bytes: v.bytes, ASCII: top.ASCII(), JSON: v.output == "json", Count: v.count}
	if v.draws() {
		err = top.Show(ctx, o, ask, warnings)
	} else {
		if o.Count < 0 {
			o.Count = 1
		}
		err = top.Print(ctx, os.Stdout, o, ask)
	}
	if err != nil {
		return fmt.Errorf("top: %w", err)
	}
	return nil
}

// there shows what another promflow has counted.
func (v *viewing) there(ctx context.Context, args []string) (err error) {
	r := remote{isDefault: len(args) == 0, timeout: topTimeout,
		hint: "name the promflow to ask, as in promflow top http://router:9088, or count here, as in promflow top --interface=eth0"}
	address := append(args, "localhost")[0]
	if r.base, err = parseBase(address); err != nil {
		return fmt.Errorf("top: %q: %w", address, err)
	}
	if r.client, err = httpClient(v.http, nil); err != nil {
		return err
	}
	ask := func(ctx context.Context, q talkers.Query) (report *talkers.Report, err error) {
		err = r.ask(ctx, func(ctx context.Context, client *http.Client, base *url.URL) (err error) {
			report, err = talkers.Fetch(ctx, client, base, q)
			return err
		})
		return report, err
	}
	if v.draws() { // print an error of the first question instead of drawing it
		if _, err := ask(ctx, v.query); ctx.Err() != nil {
			return nil
		} else if err != nil {
			return fmt.Errorf("top: %w", err)
		}
	}
	shown := *r.base
	shown.User = nil
	return v.show(ctx, shown.String(), ask, nil)
}

// topTimeout is how long the answer of another promflow may take.
const topTimeout = 5 * time.Second

// maxWarned is how many warnings are repeated at the end.
const maxWarned = 20

// here captures, and shows what was counted.
func (v *viewing) here(ctx context.Context, c *config) error {
	var drawn check.Log // shown as part of the screen
	log := drawn.Logger()
	if !v.draws() {
		c.logLevel = slog.LevelWarn
		log = c.logger(os.Stderr)
	}
	return c.count(nil, log, func(live *live.Live, monitor *live.Monitor, names hostNames) error {
		counted := talkers.New(monitor.Read)
		ask := func(_ context.Context, q talkers.Query) (*talkers.Report, error) { return counted.Report(q), nil }
		var warned []string
		warnings := func() []string {
			latest := drawn.Take()
			warned = append(warned, latest...)
			warned = warned[max(len(warned)-maxWarned, 0):]
			return latest
		}
		err := alongside(ctx, func(ctx context.Context) error { return v.show(ctx, "", ask, warnings) }, live.Run, names.update, counted.Run)
		warnings()
		for _, line := range warned { // the screen is gone
			fmt.Fprintln(os.Stderr, "promflow: warning:", line)
		}
		return err
	})
}

// alongside runs jobs until main ends. An error or a panic of a job ends main; the panic goes on after main has restored the terminal.
func alongside(ctx context.Context, main job, jobs ...job) error {
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

package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"promflow/app/history"
	"promflow/app/top"
	"promflow/app/usage"
)

// usageTimeout is how long the answer of another promflow may take.
const usageTimeout = time.Minute

// asking holds the values of the flags that only usage has.
type asking struct {
	query  usage.Query
	output string
	http   *setting // the file of the HTTP client
}

// settings returns these flags, and sets a to their defaults.
func (a *asking) settings() settings {
	a.http = httpConfigFile("Connection")
	return settings{
		{category: "Usage", name: "period", holder: "PERIOD", byDefault: usage.DefaultPeriod, parse: into(&a.query.Period, parsePeriod),
			usage: "today, yesterday, week, month, last-month; the last hours, days or months, as in 24h, 31d or 12mo; a day or month,\nas in 2026-11-30 or 2026-11; or FROM..TO, each of these or a time such as 2026-11-30T18:00"},
		{category: "Usage", name: "by", holder: "KIND", byDefault: usage.Kinds[0], text: &a.query.By, choices: usage.Kinds,
			usage: "device: a MAC with all its addresses (with --host-info; what has no MAC stands by itself), ip or network"},
		{category: "Usage", name: "of", holder: "ID", text: &a.query.Of,
			usage: "only what this MAC, IP address or network moved"},
		{category: "Usage", name: "filter", holder: "TEXT", parse: into(&a.query.Filter, parseFilter),
			usage: "show only addresses in this subnet, or rows that contain this text in an address, name or MAC"},
		{category: "Usage", name: "sort", holder: "ORDER", byDefault: usage.Sorts[0], text: &a.query.Sort, choices: usage.Sorts,
			usage: "the order of rows: " + strings.Join(usage.Sorts, ", ")},
		{category: "Usage", name: "reverse", byDefault: "false", parse: boolean(&a.query.Reverse),
			usage: "reverse the order: the lowest first, and names from Z to A"},
		{category: "Usage", name: "limit", holder: "N", otherwise: "all", parse: number(&a.query.Limit, 1, 1<<30),
			usage: "how many rows to print"},
		{category: "Usage", name: "output", holder: "FORMAT", byDefault: usage.Outputs[0], text: &a.output, choices: usage.Outputs,
			usage: "text; csv for spreadsheets; or json for scripts, as the API has it. csv and json have all numbers in bytes"},
		a.http,
	}.withDefaults()
}

// parsePeriod checks a period as far as that can be done without the zone, the clock and the month of the history.
func parsePeriod(s string) (string, error) {
	_, _, err := usage.Span(s, time.Now().Add(100*365*24*time.Hour), history.Calendar{Zone: time.Local})
	return s, err
}

// usageCommand is promflow usage.
func usageCommand(c *config) *cli.Command {
	a := new(asking)
	own := a.settings()
	there := c.all.named("data-dir", "month-starts-on")
	return &cli.Command{
		Name:      "usage",
		Usage:     "say who received and transmitted how much today, this month, or in another period",
		UsageText: "promflow usage [flags] [URL]\n   promflow usage [flags] --data-dir=DIR",
		Description: `Asks the promflow at a URL, such as http://router:9088 or just router, by default http://localhost:9088. It must run with
--data-dir. With the flag --data-dir, usage reads that directory by itself, while no promflow runs with it. The variable
PROMFLOW_DATA_DIR does not make it do so: in a container usage asks the promflow that runs there.`,
		Flags: append(slices.Clone(own), there...).flags(),
		Action: func(ctx *cli.Context) error {
			taken := append(slices.Clone(own), there...)
			if err := errors.Join(tooMany(ctx, 1, oneURL), c.all.refuse(taken), own.resolve()); err != nil {
				return err
			}
			var answer *usage.Answer
			var err error
			switch {
			case !c.all.named("data-dir")[0].IsSet():
				if c.all.named("month-starts-on")[0].IsSet() {
					return errors.New("--month-starts-on means nothing without --data-dir: the promflow that is asked has a setting of its own")
				}
				answer, err = a.remote(ctx.Context, ctx.Args().Slice())
			case ctx.Args().Present():
				return fmt.Errorf("usage: %q and --data-dir exclude each other: either another promflow is asked, or files are read here", ctx.Args().First())
			case a.http.IsSet():
				return errors.New("--http-config-file is for asking another promflow, and --data-dir reads files here")
			default:
				if err := there.resolve(); err != nil {
					return err
				}
				if c.kept.dir == "" {
					return fmt.Errorf("usage: %w", c.dataDirError(errors.New("expected a directory")))
				}
				answer, err = a.local(c)
			}
			if err != nil {
				return fmt.Errorf("usage: %w", err)
			}
			if answer.Matching == 0 && (a.query.Of != "" || a.query.Filter != "") {
				fmt.Fprintf(os.Stderr, "promflow: nothing that matches %s moved anything in this period\n", a.asked())
			}
			if err := a.print(answer); err != nil {
				return fmt.Errorf("usage: printing the answer: %w", err)
			}
			return nil
		},
	}
}

// remote asks a promflow that runs.
func (a *asking) remote(ctx context.Context, args []string) (answer *usage.Answer, err error) {
	r := remote{isDefault: len(args) == 0, timeout: usageTimeout,
		hint: "name the promflow to ask, as in promflow usage http://router:9088, or the directory of one that has ended, as in promflow usage --data-dir=/var/lib/promflow"}
	address := append(args, "localhost")[0]
	if r.base, err = parseBase(address); err != nil {
		return nil, fmt.Errorf("%q: %w", address, err)
	}
	if r.client, err = httpClient(a.http, nil); err != nil {
		return nil, err
	}
	err = r.ask(ctx, func(ctx context.Context, client *http.Client, base *url.URL) (err error) {
		answer, err = usage.Fetch(ctx, client, base, a.query)
		return err
	})
	return answer, err
}

// local reads a history that no promflow has open.
func (a *asking) local(c *config) (answer *usage.Answer, err error) {
	if warning := zoneWarning(os.Getenv("TZ"), time.Local.String()); warning != "" {
		fmt.Fprintln(os.Stderr, "promflow: warning:", warning)
	}
	h, err := history.Open(history.Config{Dir: c.kept.dir, MonthStartsOn: c.kept.monthStartsOn, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, c.dataDirError(err)
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	return usage.Of(h, a.query, time.Now())
}

// asked returns the flags that choose rows.
func (a *asking) asked() string {
	var flags []string
	if a.query.Of != "" {
		flags = append(flags, fmt.Sprintf("--of=%q", a.query.Of))
	}
	if a.query.Filter != "" {
		flags = append(flags, fmt.Sprintf("--filter=%q", a.query.Filter))
	}
	return strings.Join(flags, " and ")
}

func (a *asking) print(answer *usage.Answer) error {
	switch a.output {
	case "csv":
		return answer.CSV(os.Stdout)
	case "json":
		return answer.JSON(os.Stdout)
	}
	return answer.Text(os.Stdout, top.ASCII())
}

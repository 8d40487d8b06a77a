// Package app is the command line: it owns flags and commands, joins what captures, what exports and what serves, and ends everything in
// order.
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"
)

// Main runs promflow with the arguments of os.Args and gives its exit status.
func Main(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	if err := newApp().RunContext(ctx, args); err != nil {
		fmt.Fprintln(os.Stderr, "promflow:", oneLine(err))
		return 1
	}
	return 0
}

// helpTemplate is for the program and its commands alike; what only the program has follows in versionHelp.
const helpTemplate = `{{.HelpName}} - {{.Usage}}

Usage:
   {{.UsageText}}
{{if .VisibleCommands}}
Commands:{{range .VisibleCommands}}
   {{join .Names ", "}}{{"\t"}}{{.Usage}}{{end}}
{{end}}{{if .Description}}
{{.Description}}
{{end}}
{{range .VisibleFlagCategories}}{{if .Name}}{{.Name}}:
{{range .Flags}}   {{.}}
{{end}}
{{end}}{{end}}Other:
   --help, -h
         show this text
`

const versionHelp = `   --version, -v
         print the version
`

func newApp() *cli.App {
	c := new(config)
	all := c.settings()
	ofReplay := all.named("monitor-subnets", "exclude-subnets", "packets", "max-ips",
		"labels", "peer-subnets", "max-series", "aggregate", "aggregate6")
	k := new(checking)
	ofCheck := append(slices.Clone(all), k.settings()...)
	stamp()
	return &cli.App{
		Name:  "promflow",
		Usage: "counts the bytes that every IP address moves through a network interface",
		UsageText: `promflow [flags]                   count and serve the counts at http://localhost:9088/metrics
   promflow replay [flags] FILE...    count capture files and print the counts
   promflow check [flags]             say whether that would work here, and what is seen
   promflow top [flags] [URL]         show live who moves how much
   promflow health [flags] [URL]      ask whether promflow answers, as containers are asked
   promflow version                   print the version, its commit and its date
   promflow completion SHELL          print what completes this command line in bash, zsh or fish`,
		Description: `A flag may be written with one dash or two, and its value after a space or "="; for true and false it is "=" only. Each has
the variable that is named with it: a flag beats its variable, a variable beats the default, an empty variable counts as
unset.`,
		Version:               versionLine(),
		CustomAppHelpTemplate: helpTemplate + versionHelp,
		HideHelpCommand:       true,
		Flags:                 all.flags(),
		OnUsageError:          usageError,
		ExitErrHandler:        func(*cli.Context, error) {}, // Main exits
		Action: func(ctx *cli.Context) error {
			if ctx.Args().Present() {
				return fmt.Errorf("unknown command %q: promflow takes flags, or one of the commands replay, check, top, health, version and completion (see promflow --help)", ctx.Args().First())
			}
			if err := all.resolve(); err != nil {
				return err
			}
			return run(ctx.Context, c, c.logger(os.Stderr))
		},
		Commands: []*cli.Command{{
			Name:               "replay",
			Usage:              "count capture files and print the counts",
			UsageText:          "promflow replay [flags] FILE...",
			Description:        "Counts pcap and pcapng files, plain or compressed with gzip or zstd; - is standard input:\n\n   tcpdump -i eth0 -w - | promflow replay --monitor-subnets=192.168.1.0/24 -",
			CustomHelpTemplate: helpTemplate,
			HideHelpCommand:    true,
			Flags:              ofReplay.flags(),
			OnUsageError:       usageError,
			Action: func(ctx *cli.Context) error {
				if err := errors.Join(all.refuse(ofReplay), ofReplay.resolve()); err != nil {
					return err
				}
				return replayFiles(ctx.Context, c, ctx.Args().Slice())
			},
		}, {
			Name:      "check",
			Usage:     "say whether promflow would work here, and what share of the traffic it sees",
			UsageText: "promflow check [flags]",
			Description: `Takes the flags of the program, captures for some seconds, and compares what was counted with the kernel's own counters.
The status is 1 if something does not work, or less than 99 % of the packets are seen.`,
			CustomHelpTemplate: helpTemplate,
			HideHelpCommand:    true,
			Flags:              ofCheck.flags(),
			OnUsageError:       usageError,
			Action: func(ctx *cli.Context) error {
				if ctx.Args().Present() {
					return fmt.Errorf("check: unexpected %q: it takes flags only", ctx.Args().First())
				}
				if err := ofCheck.resolve(); err != nil {
					return err
				}
				return checkHere(ctx.Context, c, k, os.Stdout)
			},
		}, topCommand(c), healthCommand(c), {
			Name:               "version",
			Usage:              "print the version, its commit and its date",
			UsageText:          "promflow version",
			CustomHelpTemplate: helpTemplate,
			HideHelpCommand:    true,
			OnUsageError:       usageError,
			Action: func(ctx *cli.Context) error {
				if ctx.Args().Present() {
					return fmt.Errorf("version: unexpected %q: it takes nothing", ctx.Args().First())
				}
				return printVersion(os.Stdout)
			},
		}, completionCommand(), {
			Name:            "manual",
			Usage:           "print promflow(1), the manual page",
			Hidden:          true,
			HideHelpCommand: true,
			Action:          func(ctx *cli.Context) error { return writeManual(os.Stdout, ctx.App) },
		}, {
			Name:            completingCommand,
			Hidden:          true,
			SkipFlagParsing: true,
			HideHelpCommand: true,
			Action:          func(ctx *cli.Context) error { return complete(os.Stdout, ctx.App, ctx.Args().Slice()) },
		}},
	}
}

func usageError(ctx *cli.Context, err error, _ bool) error {
	return fmt.Errorf("%w (see %s --help)", err, ctx.Command.HelpName)
}

// logger makes the logger that c asks for.
func (c *config) logger(w io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: c.logLevel}
	if c.logFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// oneLine joins the lines of joined errors.
func oneLine(err error) string {
	return strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' }), "; ")
}

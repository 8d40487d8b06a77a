// Package app is the command line. It owns the flags and commands, connects the capture with the exporters and the web server, and ends
// them in order.
package app

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"
)

// Main runs promflow with the arguments args, program name included, and returns the exit status.
func Main(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	log.SetOutput(io.Discard)    // net/http quotes what servers send, also on the screen of promflow top
	if err := newApp().RunContext(ctx, args); err != nil {
		fmt.Fprintln(os.Stderr, "promflow:", oneLine(err))
		return 1
	}
	return 0
}

// helpTemplate is the help of the program and of its commands. versionHelp follows it in the program's.
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
	stamp()
	app := &cli.App{
		Name:  "promflow",
		Usage: "counts the bytes that every IP address moves through a network interface",
		UsageText: `promflow [flags]                   count and serve the counts at http://localhost:9088/metrics
   promflow replay [flags] FILE...    count capture files and print the counts
   promflow check [flags]             say whether that would work here, and what is seen
   promflow top [flags] [URL]         show the top talkers live
   promflow usage [flags] [URL]       say who received and transmitted how much in a period
   promflow health [flags] [URL]      ask whether promflow answers, as a container's health check does
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
				return fmt.Errorf("unknown command %q: promflow takes flags, or one of the commands replay, check, top, usage, health, version and completion "+
					"(see promflow --help)", ctx.Args().First())
			}
			if err := all.resolve(); err != nil {
				return err
			}
			return run(ctx.Context, c, c.logger(os.Stderr))
		},
		Commands: []*cli.Command{replayCommand(c), checkCommand(c), topCommand(c), usageCommand(c), healthCommand(c), {
			Name:      "version",
			Usage:     "print the version, its commit and its date",
			UsageText: "promflow version",
			Action: func(ctx *cli.Context) error {
				if err := tooMany(ctx, 0, "no arguments"); err != nil {
					return err
				}
				return printVersion(os.Stdout)
			},
		}, completionCommand(), {
			Name:      "manual",
			Usage:     "print promflow(1), the manual page",
			UsageText: "promflow manual",
			Hidden:    true,
			Action:    func(ctx *cli.Context) error { return writeManual(os.Stdout, ctx.App) },
		}, {
			Name:            completingCommand,
			Hidden:          true,
			SkipFlagParsing: true,
			Action: func(ctx *cli.Context) error {
				_, err := fmt.Print(strings.Join(candidates(ctx.App, ctx.Args().Slice()), ""))
				return err
			},
		}},
	}
	for _, command := range app.Commands {
		command.CustomHelpTemplate, command.HideHelpCommand, command.OnUsageError = helpTemplate, true, usageError
	}
	return app
}

// tooMany returns an error if a command has more than most arguments. takes says what it takes.
func tooMany(ctx *cli.Context, most int, takes string) error {
	if ctx.NArg() <= most {
		return nil
	}
	return fmt.Errorf("%s: unexpected %q: it takes %s", ctx.Command.Name, ctx.Args().Get(most), takes)
}

func usageError(ctx *cli.Context, err error, _ bool) error {
	return fmt.Errorf("%w (see %s --help)", err, ctx.Command.HelpName)
}

// logger returns a logger with the configured level and format.
func (c *config) logger(w io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: c.logLevel}
	if c.logFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// oneLine returns the text of an error in one line, such as that of joined errors.
func oneLine(err error) string {
	return strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' }), "; ")
}

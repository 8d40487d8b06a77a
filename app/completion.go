package app

import (
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"promflow/app/completion"
)

// completionCommand is promflow completion.
func completionCommand() *cli.Command {
	return &cli.Command{
		Name:      "completion",
		Usage:     "print a script that completes this command line in bash, zsh or fish",
		UsageText: "promflow completion bash|zsh|fish",
		Description: `For the shell that is running, once:

   bash   source <(promflow completion bash)
   zsh    source <(promflow completion zsh)
   fish   promflow completion fish | source

For each one to come, put that line into ~/.bashrc, ~/.zshrc (below compinit) or ~/.config/fish/config.fish. The packages for
Debian and Fedora bring the scripts along.`,
		Action: func(ctx *cli.Context) error {
			if ctx.NArg() != 1 {
				return fmt.Errorf("completion: expected one of %s (see promflow completion --help)", strings.Join(completion.Shells, ", "))
			}
			script, err := completion.Script(ctx.Args().First())
			if err != nil {
				return fmt.Errorf("completion: %w", err)
			}
			_, err = io.WriteString(os.Stdout, script)
			return err
		},
	}
}

// completingCommand is the hidden command that the scripts run.
const completingCommand = "__complete"

// complete prints what the last word can become: a candidate, a tab and its description in each line.
func complete(w io.Writer, app *cli.App, words []string) error {
	commands := []completion.Command{{Flags: flagsOf(app.Flags)}}
	for _, c := range app.VisibleCommands() {
		command := completion.Command{Name: c.Name, Usage: c.Usage, Flags: flagsOf(c.Flags)}
		if c.Name == "completion" {
			command.Args = completion.Shells
		}
		commands = append(commands, command)
	}
	for _, c := range completion.Complete(commands, words) {
		if _, err := fmt.Fprintf(w, "%s\t%s\n", c.Word, c.Usage); err != nil {
			return err
		}
	}
	return nil
}

func flagsOf(flags []cli.Flag) (all []completion.Flag) {
	for _, f := range flags {
		usage, _, _ := strings.Cut(f.(cli.DocGenerationFlag).GetUsage(), "\n")
		flag := completion.Flag{Name: f.Names()[0], Usage: usage}
		if s, ok := f.(*setting); ok { // else it is --help or --version
			flag.Value, flag.Values = s.TakesValue(), s.choices
		}
		if flag.Name == "interface" {
			interfaces, _ := net.Interfaces()
			for _, i := range interfaces {
				flag.Values = append(flag.Values, i.Name)
			}
		}
		all = append(all, flag)
	}
	slices.SortFunc(all, func(a, b completion.Flag) int { return strings.Compare(a.Name, b.Name) })
	return all
}

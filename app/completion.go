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
		CustomHelpTemplate: helpTemplate,
		HideHelpCommand:    true,
		OnUsageError:       usageError,
		Action: func(ctx *cli.Context) error {
			if n := ctx.NArg(); n != 1 {
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

// completingCommand is what the scripts run.
const completingCommand = "__complete"

// complete prints what the last word can become, and after a tab what that is.
func complete(w io.Writer, app *cli.App, words []string) error {
	commands := []completion.Command{{Flags: flagsOf(app.Flags)}}
	for _, c := range app.Commands {
		if !c.Hidden {
			commands = append(commands, completion.Command{Name: c.Name, Usage: c.Usage, Flags: flagsOf(c.Flags)})
		}
		if c.Name == "completion" {
			commands[len(commands)-1].Args = completion.Shells
		}
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
		s, ok := f.(*setting)
		if !ok { // cli's own: help and version
			all = append(all, completion.Flag{Name: f.Names()[0], Usage: f.(cli.DocGenerationFlag).GetUsage()})
			continue
		}
		usage, _, _ := strings.Cut(s.usage, "\n")
		values := s.choices
		if s.name == "interface" {
			values = interfacesHere()
		}
		all = append(all, completion.Flag{Name: s.name, Usage: usage, Value: s.TakesValue(), Values: values})
	}
	slices.SortFunc(all, func(a, b completion.Flag) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// interfacesHere names the network interfaces of this machine, if it tells.
func interfacesHere() (names []string) {
	all, _ := net.Interfaces()
	for _, each := range all {
		names = append(names, each.Name)
	}
	return names
}

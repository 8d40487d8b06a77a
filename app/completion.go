package app

import (
	"embed"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// shells are those that have a script. The scripts ask the program itself, so that they always know its flags.
var shells = []string{"bash", "zsh", "fish"}

//go:embed completion
var scripts embed.FS

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
				return fmt.Errorf("completion: expected one of %s (see promflow completion --help)", strings.Join(shells, ", "))
			}
			script, err := scripts.ReadFile("completion/promflow." + ctx.Args().First())
			if err != nil {
				return fmt.Errorf("completion: expected one of %s, not %q", strings.Join(shells, ", "), ctx.Args().First())
			}
			_, err = os.Stdout.Write(script)
			return err
		},
	}
}

// completingCommand is the hidden command that the scripts run.
const completingCommand = "__complete"

// candidates returns what the last of the words after the program's name can become, or nothing if only the shell can know: a candidate, a
// tab and its description in each line. In bash, which splits words at "=", a value is a word of its own.
func candidates(app *cli.App, words []string) (lines []string) {
	if len(words) == 0 {
		words = []string{""}
	}
	before, last := words[:len(words)-1], words[len(words)-1]
	command, flag, equals := position(&cli.Command{Flags: app.Flags, Subcommands: app.VisibleCommands()}, before)
	if flag != nil && last == "=" { // bash, before the value begins
		last, equals = "", true
	}
	add := func(word, usage string) {
		if strings.HasPrefix(word, last) {
			lines = append(lines, word+"\t"+usage+"\n")
		}
	}
	name, _, given := strings.Cut(last, "=")
	switch {
	case flag != nil && (equals || flag.TakesValue()):
		for _, v := range values(flag) {
			add(v, "")
		}
	case strings.HasPrefix(last, "-") && given:
		for _, v := range values(flagOf(command, name)) {
			add(name+"="+v, "")
		}
	case strings.HasPrefix(last, "-"):
		dashes := last[:len(last)-len(strings.TrimLeft(last, "-"))]
		if last == "-" {
			dashes = "--"
		}
		for _, f := range command.Flags {
			usage, _, _ := strings.Cut(f.(cli.DocGenerationFlag).GetUsage(), "\n")
			add(dashes+f.Names()[0], usage)
		}
		slices.Sort(lines)
	case command.Name == "completion":
		for _, shell := range shells {
			add(shell, "")
		}
	default:
		for _, c := range command.Subcommands {
			add(c.Name, c.Usage)
		}
	}
	return lines
}

// position returns the command of the words and, if the next word is a flag's value, that flag. equals reports whether bash's "=" came
// before it. Flags of the program may come before the command.
func position(command *cli.Command, words []string) (_ *cli.Command, waiting cli.DocGenerationFlag, equals bool) {
	for _, word := range words {
		switch {
		case waiting != nil && word == "=" && !equals:
			equals = true
		case waiting != nil && (equals || waiting.TakesValue()):
			waiting, equals = nil, false
		case strings.HasPrefix(word, "-"):
			waiting = flagOf(command, word) // nil if the word has the value, too: no name has a "="
		default:
			waiting = nil
			if c := command.Command(word); c != nil {
				command = c
			}
		}
	}
	return command, waiting, equals
}

// flagOf returns the flag of a command that a word with one dash or two names, or nil.
func flagOf(command *cli.Command, word string) cli.DocGenerationFlag {
	name := strings.TrimPrefix(strings.TrimPrefix(word, "-"), "-")
	for _, f := range command.Flags {
		if f.Names()[0] == name {
			return f.(cli.DocGenerationFlag)
		}
	}
	return nil
}

// values returns the values of a flag that are known.
func values(flag cli.DocGenerationFlag) (known []string) {
	s, ok := flag.(*setting)
	if !ok { // there is no such flag, or it is --help or --version
		return nil
	}
	if s.name != "interface" {
		return s.choices
	}
	interfaces, _ := net.Interfaces()
	for _, i := range interfaces {
		known = append(known, i.Name)
	}
	return known
}

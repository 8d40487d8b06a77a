// Package completion completes promflow's command line in shells. The scripts for the shells ask the program itself, so that they always
// know its flags.
package completion

import (
	"embed"
	"fmt"
	"slices"
	"strings"
)

// Command is what a command takes.
type Command struct {
	Name, Usage string
	Flags       []Flag
	Args        []string // the arguments that are allowed; nil leaves them to the shell, which knows files
}

// Flag is a flag of a command.
type Flag struct {
	Name, Usage string
	Value       bool     // the flag takes a value, after a space or "="
	Values      []string // the values that are known
}

// Candidate is what a word can become.
type Candidate struct{ Word, Usage string }

// Complete returns what the last of the words after the program's name can become, or nothing if only the shell can know. The first
// command is the program without a command. In bash, which splits words at "=", a value is a word of its own.
func Complete(commands []Command, words []string) []Candidate {
	if len(words) == 0 {
		words = []string{""}
	}
	before, last := words[:len(words)-1], words[len(words)-1]
	command, flag, equals := position(commands, before)
	if flag != nil && last == "=" { // bash, before the value begins
		last, equals = "", true
	}
	var all []Candidate
	switch {
	case flag != nil && (equals || flag.Value):
		for _, v := range flag.Values {
			all = append(all, Candidate{Word: v})
		}
	case strings.HasPrefix(last, "-"):
		name, _, given := strings.Cut(last, "=")
		if given {
			if flag := command.flag(name); flag != nil && flag.Value {
				for _, v := range flag.Values {
					all = append(all, Candidate{Word: name + "=" + v})
				}
			}
			break
		}
		dashes := last[:len(last)-len(strings.TrimLeft(last, "-"))]
		if last == "-" {
			dashes = "--"
		}
		for _, f := range command.Flags {
			all = append(all, Candidate{dashes + f.Name, f.Usage})
		}
	default:
		for _, arg := range command.Args {
			all = append(all, Candidate{Word: arg})
		}
		if command == &commands[0] {
			for _, c := range commands[1:] {
				all = append(all, Candidate{c.Name, c.Usage})
			}
		}
	}
	return slices.DeleteFunc(all, func(c Candidate) bool { return !strings.HasPrefix(c.Word, last) })
}

// position returns the command of the words and, if the next word is a flag's value, that flag. equals reports whether bash's "=" came
// before it. Flags of the program may come before the command.
func position(commands []Command, words []string) (command *Command, waiting *Flag, equals bool) {
	command = &commands[0]
	for _, word := range words {
		switch {
		case waiting != nil && word == "=" && !equals:
			equals = true
		case waiting != nil && (equals || waiting.Value):
			waiting, equals = nil, false
		case strings.HasPrefix(word, "-"):
			waiting = command.flag(word) // nil if the word has the value, too: no name has a "="
		default:
			waiting = nil
			if i := slices.IndexFunc(commands[1:], func(c Command) bool { return c.Name == word }); command == &commands[0] && i >= 0 {
				command = &commands[1+i]
			}
		}
	}
	return command, waiting, equals
}

// flag returns the flag that a word with one dash or two names, or nil.
func (c *Command) flag(word string) *Flag {
	name := strings.TrimPrefix(strings.TrimPrefix(word, "-"), "-")
	for i := range c.Flags {
		if c.Flags[i].Name == name {
			return &c.Flags[i]
		}
	}
	return nil
}

//go:embed scripts
var scripts embed.FS

// Shells are those that have a script.
var Shells = []string{"bash", "zsh", "fish"}

// Script returns the script for a shell.
func Script(shell string) (string, error) {
	if !slices.Contains(Shells, shell) {
		return "", fmt.Errorf("expected one of %s, not %q", strings.Join(Shells, ", "), shell)
	}
	text, err := scripts.ReadFile("scripts/promflow." + shell)
	return string(text), err
}

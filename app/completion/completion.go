// Package completion completes promflow's command line in shells. The scripts for the shells ask the program itself, so that they
// never know other flags than it does.
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
	Args        []string // what may follow the flags; without any it is left to the shell, which knows files
}

// Flag is one flag of a command.
type Flag struct {
	Name, Usage string
	Value       bool     // whether one follows, after a space or "="
	Values      []string // those that are known
}

// Candidate is what a word can become.
type Candidate struct{ Word, Usage string }

// Complete gives what the last of the words after the program's name can become, or nothing if only the shell can know. The first
// command is the program without a command. In bash, which splits words at "=", a value is a word of its own.
func Complete(commands []Command, words []string) []Candidate {
	if len(words) == 0 {
		words = []string{""}
	}
	before, last := words[:len(words)-1], words[len(words)-1]
	at, flag, equals := position(commands, before)
	switch {
	case flag != nil && last == "=": // bash, and nothing of the value is there yet
		return beginning("", values(flag, ""))
	case flag != nil && (equals || flag.Value):
		return beginning(last, values(flag, ""))
	case strings.HasPrefix(last, "-"):
		name, value, given := strings.Cut(last, "=")
		dashes := name[:len(name)-len(strings.TrimLeft(name, "-"))]
		if !given {
			if last == "-" {
				dashes = "--"
			}
			return beginning(last, flags(at, dashes))
		}
		if f := at.flag(name); f != nil && f.Value {
			return beginning(name+"="+value, values(f, name+"="))
		}
		return nil
	}
	var all []Candidate
	for _, arg := range at.Args {
		all = append(all, Candidate{Word: arg})
	}
	if at == &commands[0] {
		for _, c := range commands[1:] {
			all = append(all, Candidate{c.Name, c.Usage})
		}
	}
	return beginning(last, all)
}

// position finds the command that the words are in, and the flag that waits for its value, if there is one: with bash's "=", or
// without. Flags of the program may come before the command.
func position(commands []Command, words []string) (at *Command, waiting *Flag, equals bool) {
	at = &commands[0]
	for _, word := range words {
		switch {
		case waiting != nil && word == "=" && !equals:
			equals = true
		case waiting != nil && (equals || waiting.Value):
			waiting, equals = nil, false
		case strings.HasPrefix(word, "-"):
			waiting = nil
			if !strings.Contains(word, "=") {
				waiting = at.flag(word)
			}
		default:
			waiting = nil
			if i := slices.IndexFunc(commands[1:], func(c Command) bool { return c.Name == word }); at == &commands[0] && i >= 0 {
				at = &commands[1+i]
			}
		}
	}
	return at, waiting, equals
}

// flag finds the flag that a word with one dash or two is.
func (c *Command) flag(word string) *Flag {
	name := strings.TrimPrefix(strings.TrimPrefix(word, "-"), "-")
	for i := range c.Flags {
		if c.Flags[i].Name == name {
			return &c.Flags[i]
		}
	}
	return nil
}

func flags(of *Command, dashes string) (all []Candidate) {
	for _, f := range of.Flags {
		all = append(all, Candidate{dashes + f.Name, f.Usage})
	}
	return all
}

func values(of *Flag, before string) (all []Candidate) {
	for _, v := range of.Values {
		all = append(all, Candidate{Word: before + v})
	}
	return all
}

// beginning gives those that begin with a word.
func beginning(word string, of []Candidate) (all []Candidate) {
	for _, c := range of {
		if strings.HasPrefix(c.Word, word) {
			all = append(all, c)
		}
	}
	return all
}

//go:embed scripts
var scripts embed.FS

// Shells lists those that there is a script for.
var Shells = []string{"bash", "zsh", "fish"}

// Script gives the script for a shell.
func Script(shell string) (string, error) {
	if !slices.Contains(Shells, shell) {
		return "", fmt.Errorf("expected one of %s, not %q", strings.Join(Shells, ", "), shell)
	}
	text, err := scripts.ReadFile("scripts/promflow." + shell)
	return string(text), err
}

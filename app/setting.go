package app

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
)

// setting is a flag and its environment variable. A flag beats its variable, a variable beats the default, and an empty variable
// counts as unset. A setting is a [cli.Flag], and may belong to several commands.
type setting struct {
	name     string
	category string
	holder   string // the help's placeholder for the value; empty for a boolean
	usage    string

	byDefault string // the default value
	otherwise string // the help's words for a default that another package decides

	choices []string           // the values, or the elements of a list, that are allowed; nil if they are not a fixed set
	text    *string            // where the value goes as it is; nil: to parse
	parse   func(string) error // checks and stores the value
	secret  bool               // errors do not show the value
	repeats bool               // the flag may be repeated, and its lists are joined; else that is an error, unless the first value was empty

	givenBy string   // the flag or variable that set the value; empty for a default
	texts   []string // the values so far, if the flag repeats
	empty   bool     // the flag was given an empty value
	wrong   error    // what is wrong with the flag's value
}

var _ cli.CategorizableFlag = (*setting)(nil)

// variable is the name of the environment variable.
func (s *setting) variable() string {
	return "PROMFLOW_" + strings.ToUpper(strings.ReplaceAll(s.name, "-", "_"))
}

// Set takes the flag's value from the command line. It leaves an error to resolve, as cli would add words of its own.
func (s *setting) Set(text string) error {
	if s.IsSet() && !s.repeats && !s.empty {
		s.wrong = cmp.Or(s.wrong, s.explain("--"+s.name, text, errors.New("the flag is given twice, and takes one value")))
		return nil
	}
	s.empty = text == ""
	if err := s.take("--"+s.name, text); s.wrong == nil || !s.repeats {
		s.wrong = err
	}
	return nil
}

// resolve takes the variable's value, unless the flag was given or the variable is empty. It returns what is wrong with the value.
func (s *setting) resolve() error {
	if text := os.Getenv(s.variable()); !s.IsSet() && text != "" {
		return s.take(s.variable(), text)
	}
	return s.wrong
}

func (s *setting) take(from, text string) error {
	s.givenBy = from
	value := text
	if s.repeats {
		s.texts = append(s.texts, text)
		value = strings.Join(s.texts, ",")
	}
	if err := s.set(value); err != nil {
		return s.explain(from, text, err)
	}
	return nil
}

// explain says where a wrong value is from, and shows it unless it is secret.
func (s *setting) explain(from, text string, err error) error {
	if s.secret {
		return fmt.Errorf("%s: %w", from, err)
	}
	return fmt.Errorf("%s %q: %w", from, text, err)
}

func (s *setting) set(text string) error {
	if s.text == nil {
		return s.parse(text)
	}
	if s.choices != nil && !slices.Contains(s.choices, text) {
		return fmt.Errorf("expected one of %s", strings.Join(s.choices, ", "))
	}
	*s.text = text
	return nil
}

// String is the flag's part of the help.
func (s *setting) String() string {
	head := "--" + s.name
	if s.TakesValue() {
		head += " " + s.holder
	}
	return fmt.Sprintf("%s  (%s)\n         %s", head, s.notes(), strings.ReplaceAll(s.usage, "\n", "\n         "))
}

// notes has the variable and the default, for the help and the manual page.
func (s *setting) notes() string {
	notes := "$" + s.variable()
	if text := s.GetDefaultText(); text != "" {
		notes += ", default " + text
	}
	return notes
}

// The methods of [cli.Flag], [cli.DocGenerationFlag] and [flag.Value].

func (s *setting) Apply(set *flag.FlagSet) error { set.Var(s, s.name, s.usage); return nil }
func (s *setting) Names() []string               { return []string{s.name} }
func (s *setting) IsSet() bool                   { return s.givenBy == "--"+s.name } // by its flag
func (s *setting) IsVisible() bool               { return true }
func (s *setting) IsBoolFlag() bool              { return !s.TakesValue() }
func (s *setting) TakesValue() bool              { return s.holder != "" }
func (s *setting) GetUsage() string              { return s.usage }
func (s *setting) GetValue() string              { return s.GetDefaultText() }
func (s *setting) GetDefaultText() string        { return cmp.Or(s.byDefault, s.otherwise) }
func (s *setting) GetEnvVars() []string          { return []string{s.variable()} }
func (s *setting) GetCategory() string           { return s.category }

// into returns the parse function of a setting whose value goes to dst.
func into[T any](dst *T, parse func(string) (T, error)) func(string) error {
	return func(s string) (err error) {
		*dst, err = parse(s)
		return err
	}
}

func boolean(dst *bool) func(string) error { return into(dst, parseBool) }

func parseBool(s string) (bool, error) {
	v, err := strconv.ParseBool(s)
	if err != nil {
		err = errors.New("expected true or false")
	}
	return v, err
}

func parseOptionalBool(s string) (*bool, error) {
	v, err := parseBool(s)
	return &v, err
}

func number(dst *int, least, most int) func(string) error {
	return into(dst, func(s string) (int, error) {
		v, err := strconv.Atoi(s)
		if err != nil || v < least || v > most {
			err = fmt.Errorf("expected a whole number from %d to %d", least, most)
		}
		return v, err
	})
}

// duration parses a duration of at least least. 1 ns stands for anything but 0.
func duration(dst *time.Duration, least time.Duration) func(string) error {
	expected := "expected a time such as 500ms, 15s or 24h"
	switch {
	case least == 0:
		expected += ", or 0"
	case least > 1:
		expected = fmt.Sprintf("expected a time of at least %v, such as 15s or 5m", least)
	}
	return into(dst, func(s string) (time.Duration, error) {
		v, err := time.ParseDuration(s)
		if err != nil || v < least {
			err = errors.New(expected)
		}
		return v, err
	})
}

// settings is a list of settings, such as those of a command.
type settings []*setting

// withDefaults sets all values to their defaults.
func (s settings) withDefaults() settings {
	for _, each := range s {
		if each.byDefault == "" {
			continue
		}
		if err := each.set(each.byDefault); err != nil {
			panic(err)
		}
	}
	return s
}

// flags returns the settings as flags of cli.
func (s settings) flags() (flags []cli.Flag) {
	for _, each := range s {
		flags = append(flags, each)
	}
	return flags
}

// named returns the settings with these names, in the order of s. It panics if one does not exist.
func (s settings) named(names ...string) settings {
	found := slices.DeleteFunc(slices.Clone(s), func(each *setting) bool { return !slices.Contains(names, each.name) })
	if len(found) != len(names) {
		panic(fmt.Sprintf("%d of the settings %q exist", len(found), names))
	}
	return found
}

// refuse returns an error if the command line has a flag that is not in taken.
func (s settings) refuse(taken settings) error {
	for _, each := range s {
		if each.IsSet() && !slices.Contains(taken, each) {
			return fmt.Errorf("--%s means nothing to this command", each.name)
		}
	}
	return nil
}

// resolve takes the values of variables where the command line has no flag, and returns the first error of either.
func (s settings) resolve() error {
	for _, each := range s {
		if err := each.resolve(); err != nil {
			return err
		}
	}
	return nil
}

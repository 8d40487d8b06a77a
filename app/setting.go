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

// setting is a flag and its environment variable. A flag beats its variable, a variable beats the default, and an empty
// variable counts as unset. It is a [cli.Flag]; one setting may stand in the flags of several commands.
type setting struct {
	name     string
	category string
	holder   string // what the help shows for the value; empty for a boolean
	usage    string
	// What the value is where none is given: a text like others, or words for the help where only other parts know.
	byDefault, otherwise string

	choices []string // what the value may be, or have in a list, where that is known
	chosen  *string  // one of the choices; without it parse takes the value
	parse   func(string) error
	secret  bool // errors do not show the value
	repeats bool // it is a list, and may be given several times, which adds up; else the last one counts

	given   bool     // on the command line
	givenBy string   // the flag or the variable that gave the value
	texts   []string // that were given, if it repeats
	wrong   error
}

var (
	_ cli.CategorizableFlag = (*setting)(nil)
	_ cli.VisibleFlag       = (*setting)(nil)
)

// variable names the setting's environment variable.
func (s *setting) variable() string {
	return "PROMFLOW_" + strings.ToUpper(strings.ReplaceAll(s.name, "-", "_"))
}

// Set takes the flag's value from the command line. What is wrong with it is resolve's to say, in the program's words.
func (s *setting) Set(text string) error {
	s.given = true
	if err := s.take("--"+s.name, text); s.wrong == nil || !s.repeats {
		s.wrong = err
	}
	return nil
}

// resolve takes the variable's value, unless the flag was given or the variable is empty.
func (s *setting) resolve() error {
	if text := os.Getenv(s.variable()); !s.given && text != "" {
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
	err := s.set(value)
	switch {
	case err != nil && s.secret:
		return fmt.Errorf("%s: %w", from, err)
	case err != nil:
		return fmt.Errorf("%s %q: %w", from, text, err)
	}
	return nil
}

func (s *setting) set(text string) error {
	if s.chosen != nil {
		return choice(s.chosen, s.choices...)(text)
	}
	return s.parse(text)
}

// String is the flag's part of the help.
func (s *setting) String() string {
	head := "--" + s.name
	if s.TakesValue() {
		head += " " + s.holder
	}
	notes := "$" + s.variable()
	if text := s.GetDefaultText(); text != "" {
		notes += ", default " + text
	}
	return fmt.Sprintf("%s  (%s)\n         %s", head, notes, strings.ReplaceAll(s.usage, "\n", "\n         "))
}

// The methods that cli and flag ask for.

func (s *setting) Apply(set *flag.FlagSet) error { set.Var(s, s.name, s.usage); return nil }
func (s *setting) Names() []string               { return []string{s.name} }
func (s *setting) IsSet() bool                   { return s.given }
func (s *setting) IsVisible() bool               { return true }
func (s *setting) IsBoolFlag() bool              { return !s.TakesValue() }
func (s *setting) TakesValue() bool              { return s.holder != "" }
func (s *setting) GetUsage() string              { return s.usage }
func (s *setting) GetValue() string              { return s.GetDefaultText() }
func (s *setting) GetDefaultText() string        { return cmp.Or(s.byDefault, s.otherwise) }
func (s *setting) GetEnvVars() []string          { return []string{s.variable()} }
func (s *setting) GetCategory() string           { return s.category }

// What a value may look like. Each of these gives the parse function of a setting whose value goes to dst.

func text(dst *string) func(string) error {
	return func(s string) error { *dst = s; return nil }
}

func boolean(dst *bool) func(string) error {
	return func(s string) error {
		v, err := strconv.ParseBool(s)
		if err != nil {
			return errors.New("expected true or false")
		}
		*dst = v
		return nil
	}
}

func optionalBoolean(dst **bool) func(string) error {
	return func(s string) error {
		v := new(bool)
		if err := boolean(v)(s); err != nil {
			return err
		}
		*dst = v
		return nil
	}
}

func number(dst *int, least, most int) func(string) error {
	return func(s string) error {
		v, err := strconv.Atoi(s)
		if err != nil || v < least || v > most {
			return fmt.Errorf("expected a whole number from %d to %d", least, most)
		}
		*dst = v
		return nil
	}
}

func duration(dst *time.Duration) func(string) error {
	return func(s string) error {
		v, err := time.ParseDuration(s)
		if err != nil || v <= 0 {
			return errors.New("expected a time such as 500ms, 15s or 1m30s")
		}
		*dst = v
		return nil
	}
}

func durationOrZero(dst *time.Duration) func(string) error {
	return func(s string) error {
		v, err := time.ParseDuration(s)
		if err != nil || v < 0 {
			return errors.New("expected a time such as 30s, 15m or 24h, or 0")
		}
		*dst = v
		return nil
	}
}

func choice(dst *string, of ...string) func(string) error {
	return func(s string) error {
		if !slices.Contains(of, s) {
			return fmt.Errorf("expected one of %s", strings.Join(of, ", "))
		}
		*dst = s
		return nil
	}
}

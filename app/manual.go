package app

import (
	_ "embed"
	"io"
	"regexp"
	"slices"
	"strings"
	"text/template"
	"time"

	"github.com/prometheus/common/version"
	"github.com/urfave/cli/v2"
)

//go:embed manual.tmpl
var manualPage string

// writeManual prints the manual page, in the macros of mdoc(7). Flags and commands come from what --help prints.
func writeManual(w io.Writer, app *cli.App) error {
	date, err := time.Parse(time.RFC3339, version.BuildDate)
	if err != nil {
		date = time.Now() // the build does not know its commit
	}
	page := template.Must(template.New("manual").Funcs(template.FuncMap{
		"date":    func() string { return date.UTC().Format("January 2, 2006") },
		"version": func() string { return version.Version },
		"ofProgram": func(category string) bool {
			return slices.ContainsFunc(app.VisibleFlagCategories(), func(c cli.VisibleFlagCategory) bool { return c.Name() == category })
		},
		"head": func(s *setting) string {
			if s.TakesValue() {
				return "--" + s.name + "=" + s.holder
			}
			return "--" + s.name
		},
		"notes":    (*setting).notes,
		"escape":   roffEscape,
		"text":     roffText,
		"sentence": func(s string) string { return roffText(strings.ToUpper(s[:1]) + s[1:] + ".") },
		"usage":    roffUsage,
	}).Parse(manualPage))
	return page.Execute(w, app)
}

// roffEscape has roff print a text as it is. Plain hyphens would not be copied to a command line as such (groff_char(7)).
func roffEscape(text string) string {
	return strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
}

// sentenceEnd is where one sentence ends and the next begins. In roff a sentence begins on a line of its own.
var sentenceEnd = regexp.MustCompile(`([.)]) ([A-Z0-9])`)

// roffText formats lines of text. Indented lines become a literal display.
func roffText(text string) string {
	var lines []string
	literal := false
	for line := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		if line == "" {
			continue // around indented lines
		}
		if indented := strings.HasPrefix(line, "   "); indented != literal {
			literal = indented
			if indented {
				lines = append(lines, ".Bd -literal -offset indent")
			} else {
				lines = append(lines, ".Ed")
			}
		}
		line = roffEscape(strings.TrimSpace(line))
		if !literal {
			line = sentenceEnd.ReplaceAllString(line, "$1\n$2")
		}
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			line = `\&` + line // not a macro
		}
		lines = append(lines, line)
	}
	if literal {
		lines = append(lines, ".Ed")
	}
	return strings.Join(lines, "\n")
}

// roffUsage formats the ways to call a command, without the explanations behind two spaces.
func roffUsage(text string) string {
	var calls []string
	for line := range strings.SplitSeq(text, "\n") {
		call, _, _ := strings.Cut(strings.TrimSpace(line), "  ")
		calls = append(calls, `\fBpromflow\fR`+roffEscape(strings.TrimPrefix(call, "promflow")))
	}
	return strings.Join(calls, "\n.Pp\n")
}

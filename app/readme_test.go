package app

import (
	"fmt"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"promflow/app/live"
	"promflow/telemetry/golden"
)

//go:generate go test -count=1 -run ^TestFlagsInReadme$ . -args -update

// TestFlagsInReadme has README.md list the settings as they are.
func TestFlagsInReadme(t *testing.T) {
	if !strings.Contains(strings.Join(live.Backends(), ","), "ebpf") {
		t.Skip("the README has the backends of Linux")
	}
	app := newApp()
	all := []struct {
		heading string
		flags   []cli.Flag
	}{{"", app.Flags}}
	seen := map[string]bool{}
	for _, command := range app.Commands {
		if command.Name == "replay" || command.Name == "check" || command.Name == "top" || command.Name == "health" {
			all = append(all, struct {
				heading string
				flags   []cli.Flag
			}{command.Name, command.Flags})
		}
	}
	var b strings.Builder
	category := ""
	for _, of := range all {
		for _, f := range of.flags {
			s, ok := f.(*setting)
			if !ok || seen[s.name+s.usage] {
				continue
			}
			seen[s.name+s.usage] = true
			heading := s.category
			if of.heading != "" {
				heading = "For `promflow " + of.heading + "`"
			}
			if heading != category {
				if category != "" {
					b.WriteString("\n")
				}
				fmt.Fprintf(&b, "### %s\n\n| flag | variable | default | |\n|---|---|---|---|\n", heading)
				category = heading
			}
			byDefault := s.GetDefaultText()
			if byDefault != "" && !strings.Contains(byDefault, " ") {
				byDefault = "`" + byDefault + "`"
			}
			fmt.Fprintf(&b, "| `--%s` | `%s` | %s | %s |\n", s.name, s.variable(), byDefault, strings.ReplaceAll(s.usage, "\n", " "))
		}
	}
	golden.Section(t, "README.md", "flags", b.String())
}

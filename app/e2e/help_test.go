package e2e

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"promflow/app"
	"promflow/telemetry/golden"
)

func TestHelp(t *testing.T) {
	var all strings.Builder
	for _, args := range [][]string{{"--help"}, {"replay", "--help"}, {"top", "--help"}} {
		var out, errs bytes.Buffer
		cmd := promflow(t, args...)
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err := runWithin(cmd); err != nil || errs.Len() > 0 {
			t.Fatalf("%q: %v: %s", args, err, &errs)
		}
		fmt.Fprintf(&all, "$ promflow %s\n%s", strings.Join(args, " "), &out)
	}
	golden.Compare(t, "help.golden", all.String())
	for line := range strings.Lines(all.String()) {
		if strings.ContainsAny(line, "\t") || len(line) > 131 || strings.TrimRight(line, " \n") != strings.TrimRight(line, "\n") {
			t.Errorf("reads badly: %q", line)
		}
	}
}

func TestVersion(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--version"}, `^promflow version (\S+) \(commit \S+ of \S+, go\S+, \w+/\w+\)\n$`},
		{[]string{"version"}, `^promflow (\S+)\ncommit      \S+\nbuild date  \S+\nGo          go\S+\nplatform    \w+/\w+\n$`},
	} {
		out, err := promflow(t, c.args...).Output()
		m := regexp.MustCompile(c.want).FindSubmatch(out)
		if m == nil || err != nil {
			t.Fatalf("%v: %q, %v", c.args, out, err)
		}
		// As https://semver.org has it: the app.Release that is being worked on, or a pre-release of it.
		if version := string(m[1]); version != app.Release && !strings.HasPrefix(version, app.Release+"-") {
			t.Errorf("%v: %s is not before %s", c.args, version, app.Release)
		}
	}
	fails(t, promflow(t, "version", "please"))
}

package app

import (
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/prometheus/common/version"
	"github.com/urfave/cli/v2"
)

// writeManual prints the manual page, in the macros of mdoc(7), from what --help prints.
func writeManual(w io.Writer, app *cli.App) error {
	m := &manual{}
	date, err := time.Parse(time.RFC3339, version.BuildDate)
	if err != nil {
		date = time.Now() // of a build that does not know its commit
	}
	m.macro("Dd", date.UTC().Format("January 2, 2006"))
	m.macro("Dt", "PROMFLOW 1")
	m.macro("Os", "promflow "+version.Version)
	m.macro("Sh", "NAME")
	m.macro("Nm", "promflow")
	m.macro("Nd", app.Usage)
	m.macro("Sh", "SYNOPSIS")
	m.usage(app.UsageText)
	m.macro("Sh", "DESCRIPTION")
	m.text(`promflow watches network interfaces and counts the bytes that every IP address in the monitored subnets receives and transmits.
It serves the counts to Prometheus at /metrics, shows them on a page of its own at /, and pushes them to an OpenTelemetry collector if
there is an endpoint for that.`)
	m.macro("Pp")
	m.text(app.Description)
	m.macro("Pp")
	m.text("SIGTERM and SIGINT end it, after the last counts have been pushed.")
	m.macro("Sh", "OPTIONS")
	m.text("check takes all of these, replay and top take some: see their --help.")
	m.flags(app.VisibleFlagCategories())
	m.macro("Sh", "COMMANDS")
	for _, c := range app.VisibleCommands() {
		m.macro("Ss", "promflow "+c.Name)
		m.text(strings.ToUpper(c.Usage[:1]) + c.Usage[1:] + ".")
		m.macro("Pp")
		m.usage(c.UsageText)
		if c.Description != "" {
			m.macro("Pp")
			m.text(c.Description)
		}
		switch flags := c.VisibleFlagCategories(); c.Name {
		case "replay", "check": // whose other flags are the program's
			m.flags(ownFlags(flags, app))
		default:
			m.flags(flags)
		}
	}
	m.macro("Sh", "ENVIRONMENT")
	m.text("Each flag has the variable that is named with it. Besides,")
	m.list([][2]string{
		{"OTEL_*", "is what OpenTelemetry's specification defines for exporters and resources: it is followed where promflow's own flags and variables leave something open."},
		{"NO_COLOR", "keeps promflow top from using colors, if it is not empty."},
		{"NOTIFY_SOCKET, WATCHDOG_USEC, LISTEN_FDS", "are set by service managers: see sd_notify(3) and sd_listen_fds(3)."},
	})
	m.macro("Sh", "FILES")
	m.list([][2]string{
		{"/etc/default/promflow", "has the variables of the service, where a package has installed it."},
	})
	m.macro("Sh", "EXIT STATUS")
	m.text("0 after it was asked to end, or has done what it was asked for; 1, and one line on standard error that says why, if something keeps it from working.")
	m.macro("Sh", "EXAMPLES")
	for _, each := range [][2]string{
		{"Count a home network, and look at http://localhost:9088:", "promflow --interface=br-lan --monitor-subnets=192.168.1.0/24,fd00:1::/64"},
		{"Find out what would work here:", "promflow check --interface=br-lan --monitor-subnets=192.168.1.0/24"},
		{"Ask who moves how much on a router:", "promflow top router"},
		{"Count a file:", "promflow replay --monitor-subnets=0.0.0.0/0,::/0 monday.pcap"},
	} {
		m.text(each[0])
		m.macro("Bd", "-literal -offset indent")
		m.text(each[1])
		m.macro("Ed")
	}
	m.macro("Sh", "SEE ALSO")
	m.text("ip(8), setcap(8), systemd.service(5), tcpdump(8)")
	_, err = io.WriteString(w, m.String())
	return err
}

// ownFlags leaves out those that the program has, too.
func ownFlags(categories []cli.VisibleFlagCategory, app *cli.App) (own []cli.VisibleFlagCategory) {
	known := map[string]bool{}
	for _, c := range app.VisibleFlagCategories() {
		known[c.Name()] = true
	}
	for _, c := range categories {
		if !known[c.Name()] {
			own = append(own, c)
		}
	}
	return own
}

// manual is a page in the making.
type manual struct{ strings.Builder }

// macro writes a line that is none of text.
func (m *manual) macro(name string, arguments ...string) {
	fmt.Fprintln(m, strings.TrimRight("."+name+" "+strings.Join(arguments, " "), " "))
}

// sentence is where one ends and the next begins, which is on a line of its own in roff.
var sentence = regexp.MustCompile(`([.)]) ([A-Z0-9])`)

// text writes lines of text. What is indented stands as it is.
func (m *manual) text(lines string) {
	literal := false
	for line := range strings.SplitSeq(strings.TrimRight(lines, "\n"), "\n") {
		switch indented := strings.HasPrefix(line, "   "); {
		case line == "":
			continue // between a paragraph and what is indented
		case indented != literal && indented:
			m.macro("Bd", "-literal -offset indent")
			literal = true
		case indented != literal:
			m.macro("Ed")
			literal = false
		}
		line = escaped(strings.TrimSpace(line))
		if !literal {
			line = sentence.ReplaceAllString(line, "$1\n$2")
		}
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			line = `\&` + line
		}
		fmt.Fprintln(m, line)
	}
	if literal {
		m.macro("Ed")
	}
}

// usage writes the ways to call a command, without the explanations that follow two spaces.
func (m *manual) usage(lines string) {
	for i, line := range strings.Split(lines, "\n") {
		line, _, _ = strings.Cut(strings.TrimSpace(line), "  ")
		rest := strings.TrimPrefix(line, "promflow")
		if i > 0 {
			m.macro("Pp")
		}
		fmt.Fprintf(m, `\fBpromflow\fR%s`+"\n", escaped(rest))
	}
}

// flags writes a list of flags, each with its variable and its default.
func (m *manual) flags(categories []cli.VisibleFlagCategory) {
	for _, c := range categories {
		var items [][2]string
		for _, f := range c.Flags() {
			s, ok := f.(*setting)
			if !ok {
				continue
			}
			head := "--" + s.name
			if s.holder != "" {
				head += "=" + s.holder
			}
			notes := "$" + s.variable()
			if text := s.GetDefaultText(); text != "" {
				notes += ", default " + text
			}
			items = append(items, [2]string{head, s.usage + "\n(" + notes + ")"})
		}
		if len(items) == 0 {
			continue // help and version
		}
		m.macro("Pp")
		m.text(c.Name() + ":")
		m.list(items)
	}
}

func (m *manual) list(items [][2]string) {
	m.macro("Bl", "-tag -width indent")
	for _, item := range items {
		fmt.Fprintf(m, ".It %s\n", `\fB`+escaped(item[0])+`\fR`)
		m.text(item[1])
	}
	m.macro("El")
}

// escaped has a text stand for itself. A hyphen is for copying to a command line, too (groff_char(7)).
func escaped(text string) string {
	return strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
}

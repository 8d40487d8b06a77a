package app

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/urfave/cli/v2"
)

// FuzzSettings gives every setting the same text, by its flag and by its variable: both take it alike, or refuse it in one
// line that names the flag or the variable.
func FuzzSettings(f *testing.F) {
	for _, s := range []string{
		"", " ", "eth0", "true", "F", "maybe", "0", "1", "-1", "1073741824", "1073741825", "1e6", "+7", "0x10", "10s", "-1s", "1h2m3.5s", "0.1ns",
		"auto", "ebpf", "afpacket", "192.168.0.1/24", "10.0.0.0/8, fd00::1/64", "fe80::1%eth0", "10.0.0.0/33", "0.0.0.0/0,::/0", ":9088", "none",
		"prometheus,otlp", " Console ,none", ",", "grpc", "http/protobuf", "gzip", "delta", "DEBUG", "warn+1", "json", "a=b,c=d", "a b=c", "a=%",
		"https://collector", "a\nb", "a\x1b[31m", "é\xff", "--packets", "\u2028",
		"network,peer", "vlan, protocol", "lan=10.0.0.0/8,fd00::/8", "external=10.0.0.0/8", "/24", "/129", "64",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		given := func(text string, times int) (*config, settings, []error) {
			c := new(config)
			all := c.settings()
			errs := make([]error, len(all))
			for i, s := range all {
				for range times {
					if err := s.Set(text); err != nil {
						t.Errorf("--%s %q: %v", s.name, text, err)
					}
				}
				errs[i] = s.resolve()
			}
			c.all = nil // of which values are not to be compared
			return c, all, errs
		}
		first, all, errs := given(text, 1)
		for i, s := range all {
			if err := errs[i]; err != nil {
				checkSettingError(t, s, text, err)
			}
		}
		if again, _, _ := given(text, 2); !reflect.DeepEqual(first, again) {
			t.Errorf("%q gives %+v, and twice %+v", text, first, again)
		}
		const secret = "hunter2" // at the end of whatever it is
		_, all, secretErrs := given(text+secret, 1)
		for i, s := range all {
			if s.secret && secretErrs[i] != nil && strings.Contains(secretErrs[i].Error(), secret) {
				t.Errorf("--%s %q: %v", s.name, text+secret, secretErrs[i])
			}
		}

		if text == "" || strings.Contains(text, "\x00") {
			return // no variable
		}
		byVariables, all, _ := given("", 0)
		for i, s := range all {
			os.Setenv(s.variable(), text)
			err := s.resolve()
			os.Unsetenv(s.variable())
			want := errs[i]
			if want != nil {
				want = errors.New(s.variable() + strings.TrimPrefix(want.Error(), "--"+s.name))
			}
			if fmt.Sprint(err) != fmt.Sprint(want) {
				t.Errorf("%s %q: %v, want %v", s.variable(), text, err, want)
			}
		}
		if !reflect.DeepEqual(byVariables, first) {
			t.Errorf("%q gives %+v by variables, and %+v by flags", text, byVariables, first)
		}
	})
}

// checkSettingError checks what is said of a flag's value: one line that names the flag and shows the value, unless that is a
// secret.
func checkSettingError(t *testing.T, s *setting, text string, err error) {
	t.Helper()
	line := err.Error()
	if !strings.HasPrefix(line, "--"+s.name) || strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) {
		t.Errorf("--%s %q: %q", s.name, text, line)
	}
	if !s.secret && !strings.HasPrefix(line, fmt.Sprintf("--%s %q: ", s.name, text)) {
		t.Errorf("--%s %q: %q does not show it", s.name, text, line)
	}
}

// FuzzCommandLine reads command lines, of an argument a line, up to where a command would begin its work. What is wrong is one
// error, and nothing is printed; else one command begins, or there is help.
func FuzzCommandLine(f *testing.F) {
	for _, s := range []string{
		"", "-h", "--help", "-v", "--version", "replay", "replay\n--help", "replay\n-", "--interface\nlo", "-interface=lo\n--packets",
		"--packets=false\nreplay\n--max-ips=7\na.pcap\nb.pcap", "--\nreplay", "replay\n--\n--packets", "record", "--nosuch", "--interface", "-",
		"---interface=a", "--=a", "-=", "--max-ips=x\n--max-ips=7", "--max-ips=x", "replay\n--interface=lo\na", "--help=false", "--help=x",
		"--promiscuous\nfalse", "--monitor-subnets=\n--exclude-subnets=", "help", "h", "--otlp-headers=a=hunter2,hunter2", "--interface=\x1b[31m\n", "--generate-bash-completion",
		"top", "top\nrouter", "--interface=lo\ntop\n--sort=ip", "top\n--count=x\n--count=7",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, lines string) {
		var printed bytes.Buffer
		begun := 0
		app := newApp()
		app.Writer, app.ErrWriter = &printed, &printed
		actions := []*cli.ActionFunc{&app.Action}
		flags := [][]cli.Flag{app.Flags}
		for _, command := range app.Commands {
			actions, flags = append(actions, &command.Action), append(flags, command.Flags)
		}
		for i, action := range actions {
			var all settings
			for _, each := range flags[i] {
				all = append(all, each.(*setting))
			}
			*action = func(*cli.Context) error {
				begun++
				return all.resolve()
			}
		}
		err := app.Run(append([]string{"promflow"}, strings.Split(lines, "\n")...))
		if begun > 1 {
			t.Errorf("%q: %d commands began", lines, begun)
		}
		if err != nil && (printed.Len() > 0 || oneLine(err) == "" || strings.Contains(oneLine(err), "\n")) {
			t.Errorf("%q: %v, and printed %s", lines, err, &printed)
		}
		if err == nil && (begun == 0) != strings.HasPrefix(printed.String(), "promflow ") {
			t.Errorf("%q: %d commands began, and it printed %s", lines, begun, &printed)
		}
	})
}

// FuzzExporters has exporters chosen by flags and variables: known ones, each once and in a place to go, or an error that names
// what is wrong.
func FuzzExporters(f *testing.F) {
	for _, s := range [][4]string{
		{"", "", "", ":9088"}, {"prometheus", "", "", "none"}, {"", "prometheus,otlp", "", "none"}, {"none", "otlp", "false", ":9088"},
		{"", "none", "", ":9088"}, {"otlp,OTLP, console", "x", "TRUE ", "none"}, {"", "none,prometheus,none", "maybe", ":9088"}, {"", ",", "", "none"},
	} {
		f.Add(s[0], s[1], s[2], s[3], "")
		f.Add(s[0], s[1], s[2], s[3], "collector")
	}
	log := slog.New(slog.DiscardHandler)
	f.Fuzz(func(t *testing.T, flag, list, disabled, address, endpoint string) {
		for name, value := range map[string]string{"OTEL_METRICS_EXPORTER": list, "OTEL_SDK_DISABLED": disabled} {
			if os.Setenv(name, value) != nil {
				os.Unsetenv(name)
			}
			defer os.Unsetenv(name)
		}
		c := new(config)
		all := c.settings()
		given := map[string]string{"exporters": flag, "metrics-address": address, "otlp-endpoint": endpoint}
		for name, value := range given {
			if value != "" {
				all.named(name)[0].Set(value)
			}
		}
		if all.resolve() != nil {
			return
		}
		chosen, err := chooseExporters(c, log)
		if err != nil {
			if chosen != nil || len(c.addresses) > 0 || !strings.Contains(err.Error(), "--metrics-address none") {
				t.Errorf("%q, %q: %q, %v", given, list, chosen, err)
			}
			return
		}
		for i, name := range chosen {
			if !slices.Contains(exporterNames(), name) || slices.Contains(chosen[:i], name) || name == "prometheus" && len(c.addresses) == 0 {
				t.Errorf("%q, %q: %q", given, list, chosen)
			}
		}
		if off := strings.EqualFold(strings.TrimSpace(os.Getenv("OTEL_SDK_DISABLED")), "true"); off && len(chosen) > 0 ||
			!off && flag != "" && len(c.addresses) > 0 && !slices.Equal(chosen, c.exporters) {
			t.Errorf("%q, %q, disabled is %q: %q", given, list, disabled, chosen)
		}
	})
}

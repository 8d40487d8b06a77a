package app

import (
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v2"

	"promflow/capture/subnets"
	"promflow/capture/watch"
	"promflow/telemetry/talkers"
)

// The machine's own settings are not for the tests.
func TestMain(m *testing.M) {
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "OTEL_") || strings.HasPrefix(name, "PROMFLOW_") {
			os.Unsetenv(name)
		}
	}
	os.Exit(m.Run())
}

// configured gives what the command line and the environment make of the settings.
func configured(args ...string) (*config, error) {
	c := new(config)
	all := c.settings()
	app := &cli.App{
		Flags:          all.flags(),
		Action:         func(*cli.Context) error { return all.resolve() },
		OnUsageError:   usageError,
		ExitErrHandler: func(*cli.Context, error) {},
	}
	return c, app.Run(append([]string{"promflow"}, args...))
}

func TestEveryFlagHasVariableCategoryAndUsage(t *testing.T) {
	app := newApp()
	app.Setup()
	all := map[string][]cli.Flag{"promflow": app.Flags}
	for _, command := range app.Commands {
		all["promflow "+command.Name] = command.Flags
	}
	walked := 0
	for command, flags := range all {
		for _, f := range flags {
			name := f.Names()[0]
			if name == "help" || name == "version" {
				continue
			}
			walked++
			d, ok := f.(interface {
				cli.DocGenerationFlag
				cli.CategorizableFlag
			})
			if !ok {
				t.Errorf("%s --%s is a %T, which documents nothing", command, name, f)
				continue
			}
			want := "PROMFLOW_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
			if got := d.GetEnvVars(); len(got) != 1 || got[0] != want {
				t.Errorf("%s --%s has the variables %v, want %s", command, name, got, want)
			}
			if d.GetCategory() == "" || d.GetUsage() == "" {
				t.Errorf("%s --%s: category %q, usage %q", command, name, d.GetCategory(), d.GetUsage())
			}
		}
	}
	if walked < 20 {
		t.Errorf("walked %d flags only", walked)
	}
}

// The flags that promflow has had from its beginning.
func TestContractFlags(t *testing.T) {
	for _, c := range []struct {
		name, deflt, given, want string
		get                      func(*config) string
	}{
		{"interface", "eth0", "br-lan", "br-lan", func(c *config) string { return c.interfaces.String() }},
		{"monitor-subnets", "192.168.0.1/24", "10.1.2.3/8, fd00::1/64", "10.1.2.3/8, fd00::1/64", func(c *config) string { return c.monitored.String() }},
		{"exclude-subnets", "255.255.255.250/32", "10.9.9.9/16", "10.9.9.9/16", func(c *config) string { return c.excluded.String() }},
		{"metrics-address", ":9088", "127.0.0.1:1", "127.0.0.1:1", func(c *config) string { return fmt.Sprint(c.addresses[0]) }},
	} {
		variable := "PROMFLOW_" + strings.ToUpper(strings.ReplaceAll(c.name, "-", "_"))
		for _, row := range []struct {
			variable string
			args     []string
			want     string
		}{
			{"", nil, c.deflt}, // an empty variable counts as unset
			{"", []string{"-" + c.name + "=" + c.given}, c.want},
			{"", []string{"--" + c.name + "=" + c.given}, c.want},
			{"", []string{"-" + c.name, c.given}, c.want},
			{"", []string{"--" + c.name, c.given}, c.want},
			{c.given, nil, c.want},
			{"10.20.30.40/32", []string{"--" + c.name, c.given}, c.want},
			{"10.20.30.40/33", []string{"--" + c.name, c.given}, c.want},
			{c.given, []string{"--packets", "-max-ips=7", "--log-level", "warn"}, c.want},
		} {
			t.Run(fmt.Sprintf("%s=%s %q", variable, row.variable, row.args), func(t *testing.T) {
				t.Setenv(variable, row.variable)
				got, err := configured(row.args...)
				if err != nil || c.get(got) != row.want {
					t.Errorf("is %q (%v), want %q", c.get(got), err, row.want)
				}
			})
		}
	}
}

func TestSettings(t *testing.T) {
	defaults, err := configured()
	if err != nil {
		t.Fatal(err)
	}
	yes, no := true, false
	for _, c := range []struct {
		env    string // NAME=value
		args   string
		change func(*config) // of the defaults
	}{
		{"", "", func(*config) {}},
		{"", "--exclude-subnets=", func(c *config) { must(into(&c.excluded, subnets.ParseList)("")) }},
		{"", "--monitor-subnets=0.0.0.0/0,::/0", func(c *config) { must(into(&c.monitored, subnets.ParseList)("0.0.0.0/0,::/0")) }},
		{"", "--monitor-subnets=10.0.0.7", func(c *config) { must(into(&c.monitored, subnets.ParseList)("10.0.0.7")) }},
		{"", "--interface=a --interface=b", func(c *config) { c.interfaces.Exact = []string{"a", "b"} }},
		{"", "--interface=ppp*,b --interface=b,a", func(c *config) { c.interfaces = watch.Names{Exact: []string{"b", "a"}, Globs: []string{"ppp*"}} }},
		{"PROMFLOW_INTERFACE=eth*", "", func(c *config) { c.interfaces = watch.Names{Globs: []string{"eth*"}} }},
		{"", "--expire-after=0", func(c *config) { c.expireAfter = 0 }},
		{"PROMFLOW_MAX_IPS=x", "--max-ips=7", func(c *config) { c.maxIPs = 7 }},
		{"PROMFLOW_MAX_IPS=7", "", func(c *config) { c.maxIPs = 7 }},
		{"", "--packets", func(c *config) { c.packets = true }},
		{"PROMFLOW_PACKETS=true", "--packets=false", func(*config) {}},
		{"PROMFLOW_PACKETS=1", "", func(c *config) { c.packets = true }},
		{"PROMFLOW_PROMISCUOUS=false", "", func(c *config) { c.promiscuous = false }},
		{"PROMFLOW_PROMISCUOUS=false", "--promiscuous", func(*config) {}},
		{"", "--host-info --lease-files=/a,/b --reverse-dns=false", func(c *config) { c.hostInfo, c.leaseFiles, c.reverseDNS = true, []string{"/a", "/b"}, false }},
		{"", "--names-file=/n --reverse-dns-rate=60 --mdns=false", func(c *config) { c.namesFile, c.reverseDNSRate, c.mdns = "/n", 60, false }},
		{"PROMFLOW_NAMES_FILE=/n", "", func(c *config) { c.namesFile = "/n" }},
		{"", "--lease-files=", func(c *config) { c.leaseFiles = []string{} }},
		{"", "-promiscuous=false", func(c *config) { c.promiscuous = false }},
		{"PROMFLOW_OTLP_INSECURE=false", "", func(c *config) { c.otlp.Insecure = &no }},
		{"PROMFLOW_OTLP_INSECURE=false", "--otlp-insecure", func(c *config) { c.otlp.Insecure = &yes }},
		{"PROMFLOW_OTLP_INTERVAL=1m30s", "", func(c *config) { c.otlp.Interval = 90 * time.Second }},
		{"", "--otlp-timeout 500ms --otlp-endpoint localhost:4317", func(c *config) {
			c.otlp.Timeout, c.otlp.Endpoint = 500*time.Millisecond, "localhost:4317"
		}},
		{"", "--log-level=DEBUG --log-format json", func(c *config) { c.logLevel, c.logFormat = slog.LevelDebug, "json" }},
		{"PROMFLOW_WEB_CONFIG_FILE=web.yml", "--otlp-headers=a=b,c=d", func(c *config) { c.webConfigFile, c.otlp.Headers = "web.yml", map[string]string{"a": "b", "c": "d"} }},
	} {
		t.Run(c.env+" "+c.args, func(t *testing.T) {
			if name, value, ok := strings.Cut(c.env, "="); ok {
				t.Setenv(name, value)
			}
			got, err := configured(strings.Fields(c.args)...)
			want := *defaults
			c.change(&want)
			got.all, want.all = nil, nil
			if err != nil || !reflect.DeepEqual(*got, want) {
				t.Errorf("got %+v (%v), want %+v", *got, err, want)
			}
		})
	}
}

// The commands' own settings have their defaults before anything is given.
func TestDefaultsOfCommands(t *testing.T) {
	length, output := time.Duration(0), ""
	checkSettings(&length, &output)
	if length != 5*time.Second || output != "text" {
		t.Errorf("check has %v and %q", length, output)
	}
	v := new(viewing)
	v.settings()
	if v.output != "text" || v.count >= 0 || v.query.Limit != talkers.DefaultLimit || v.query.Sort != talkers.Sorts[0] {
		t.Errorf("top has %+v", *v)
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

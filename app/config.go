package app

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"promflow/app/live"
	"promflow/app/privilege"
	"promflow/capture"
	"promflow/capture/labels"
	"promflow/capture/subnets"
	"promflow/capture/watch"
	"promflow/telemetry/otlp"
)

// config is what flags and variables say.
type config struct {
	interfaces    watch.Names
	waitInterface bool
	promiscuous   bool
	backend       string

	monitored, excluded subnets.Set
	packets             bool
	maxIPs              int
	expireAfter         time.Duration

	labels    labels.Set
	peers     subnets.Set
	hostBits  labels.HostBits
	maxSeries int // 0: as many as maxIPs says

	hostInfo   bool
	leaseFiles []string // nil: not given
	reverseDNS bool

	exporters      []string // nil: not given
	metricsAddress string
	webConfigFile  string
	noUI           bool
	otlp           otlp.Config

	user privilege.User

	logLevel  slog.Level
	logFormat string

	all settings
}

// table makes the table that c asks for, whose addresses expire when they were idle for so long.
func (c *config) table(expireAfter time.Duration) *capture.Table {
	if c.labels == 0 && c.hostBits == (labels.HostBits{}) {
		return capture.NewTable(c.maxIPs, expireAfter)
	}
	series := c.maxSeries
	if series == 0 {
		series = max(4*c.maxIPs, 4096)
	}
	return capture.NewGroupedTable(c.maxIPs, expireAfter, labels.New(c.labels, c.monitored, c.peers, c.hostBits), series)
}

// explainLabels says what would make labels other than expected.
func (c *config) explainLabels(log *slog.Logger) {
	if c.labels == 0 && c.maxSeries > 0 {
		log.Warn("a limit of series is for labels only, and none is asked for", c.givenBy("max-series"), c.maxSeries)
	}
	if !c.labels.Has(labels.Peer) {
		if !c.peers.Empty() {
			log.Warn("peer subnets are for the label peer only, which is not asked for", c.givenBy("peer-subnets"), c.peers)
		}
		return
	}
	for i, prefix := range c.monitored.Prefixes() {
		if prefix.Bits() == 0 {
			log.Info("with all addresses monitored, none of this version has the peer \"external\" (see --monitor-subnets)",
				"monitored", prefix, "peer", c.monitored.Name(i))
		}
	}
}

// givenBy names the flag or the variable that gave a setting its value, for messages; its flag, if none did.
func (c *config) givenBy(name string) string {
	return cmp.Or(c.all.named(name)[0].givenBy, "--"+name)
}

// isGiven tells whether a setting was given a value.
func (c *config) isGiven(name string) bool { return c.all.named(name)[0].givenBy != "" }

// settings lists what can be set of c, which gets the defaults.
func (c *config) settings() settings {
	*c = config{}
	c.all = settings{
		{category: "Capture", name: "interface", holder: "LIST", byDefault: "eth0", parse: interfaceNames(&c.interfaces), repeats: true,
			usage: "the network interfaces whose packets are counted: names, and globs such as ppp*, separated by commas;\nmay be given several times"},
		{category: "Capture", name: "wait-interface", byDefault: "false", parse: boolean(&c.waitInterface),
			usage: "start even if an interface is not there yet, and capture it as soon as it is"},
		{category: "Capture", name: "capture", holder: "BACKEND", byDefault: live.Automatic, chosen: &c.backend, choices: append([]string{live.Automatic}, live.Backends()...),
			usage: "how packets are captured: " + live.Automatic + " takes the first that works of " + strings.Join(live.Backends(), ", ")},
		{category: "Capture", name: "promiscuous", byDefault: "true", parse: boolean(&c.promiscuous),
			usage: "ask the interface for packets that are not addressed to this machine, as on a mirror port"},

		{category: "Counting", name: "monitor-subnets", holder: "LIST", byDefault: "192.168.0.1/24", parse: someSubnets(&c.monitored),
			usage: "the addresses that are counted: IPv4 and IPv6 subnets, separated by commas;\n0.0.0.0/0,::/0 counts all. One may have a name for --labels, as in lan=192.168.0.0/24"},
		{category: "Counting", name: "exclude-subnets", holder: "LIST", byDefault: "255.255.255.250/32", parse: unnamedSubnets(&c.excluded),
			usage: "packets going to or coming from these are not counted; an empty list excludes nothing"},
		{category: "Counting", name: "packets", byDefault: "false", parse: boolean(&c.packets),
			usage: "count packets, too"},
		{category: "Counting", name: "max-ips", holder: "N", byDefault: strconv.Itoa(capture.DefaultLimit), parse: number(&c.maxIPs, 1, 1<<30),
			usage: `how many addresses are counted separately; all others count as ip="other"`},

		{category: "Counting", name: "expire-after", holder: "TIME", byDefault: "24h", parse: durationOrZero(&c.expireAfter),
			usage: "how long an address may be idle before it leaves the page; it keeps its total for its return while there is\nroom for it. 0 is for ever"},

		{category: "Labels", name: "labels", holder: "LIST", choices: labels.Names(), parse: labelList(&c.labels),
			usage: "labels that split the totals of an address: " + strings.Join(labels.Names(), ", ") + ", or some of these"},
		{category: "Labels", name: "peer-subnets", holder: "LIST", parse: subnetList(&c.peers),
			usage: "further subnets that the label peer knows, as in vpn=10.8.0.0/16"},
		{category: "Labels", name: "max-series", holder: "N", otherwise: "4 for each of --max-ips, at least 4096", parse: number(&c.maxSeries, 1, 1<<24),
			usage: `how many combinations of labels are counted separately, over all addresses; labels of others are "other"`},
		{category: "Labels", name: "aggregate", holder: "/LENGTH", parse: prefixLength(&c.hostBits.V4, 32),
			usage: `count IPv4 by prefixes of this length instead of by address: /24 gives ip="192.168.1.0/24"`},
		{category: "Labels", name: "aggregate6", holder: "/LENGTH", parse: prefixLength(&c.hostBits.V6, 128),
			usage: "the same for IPv6"},

		{category: "Names", name: "host-info", byDefault: "false", parse: boolean(&c.hostInfo),
			usage: "add hostnames and MAC addresses, as promflow_host_info, to be joined by ip"},
		{category: "Names", name: "lease-files", holder: "LIST", otherwise: "the well-known ones that exist", parse: fileList(&c.leaseFiles),
			usage: "where DHCP servers keep hostnames and MACs: lease files of dnsmasq, Kea and ISC dhcpd, separated by commas;\nan empty list reads none"},
		{category: "Names", name: "reverse-dns", byDefault: "true", parse: boolean(&c.reverseDNS),
			usage: "ask this machine's resolver for hostnames that no file has"},

		{category: "Metrics", name: "exporters", holder: "LIST", otherwise: "prometheus, and otlp where there is an endpoint", choices: append(exporterNames(), "none"), parse: exporterList(&c.exporters),
			usage: "where metrics go: " + strings.Join(exporterNames(), ", ") + " (standard output), or none. The default is\nOTEL_METRICS_EXPORTER, if set"},
		{category: "Metrics", name: "metrics-address", holder: "HOST:PORT", byDefault: ":9088", parse: text(&c.metricsAddress),
			usage: "where to serve /metrics; without a host, on all addresses; none opens no port"},
		{category: "Metrics", name: "web-config-file", holder: "FILE", parse: text(&c.webConfigFile),
			usage: "TLS and basic authentication, as for every Prometheus exporter:\nhttps://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md"},
		{category: "Metrics", name: "no-ui", byDefault: "false", parse: boolean(&c.noUI),
			usage: "serve no live page at /, and nothing for promflow top"},

		{category: "OTLP", name: "otlp-endpoint", holder: "ENDPOINT", parse: text(&c.otlp.Endpoint),
			usage: "push to this OpenTelemetry collector: host:port or http://host:port in plain text,\nhttps://host:port with TLS. Without it OTEL_EXPORTER_OTLP_ENDPOINT is followed, if set"},
		{category: "OTLP", name: "otlp-protocol", holder: "PROTOCOL", otherwise: otlp.GRPC, chosen: &c.otlp.Protocol, choices: []string{otlp.GRPC, otlp.HTTPProtobuf},
			usage: "grpc, by default to port 4317, or http/protobuf, by default to port 4318"},
		{category: "OTLP", name: "otlp-insecure", otherwise: "as the endpoint says", parse: optionalBoolean(&c.otlp.Insecure),
			usage: "whether to push in plain text to an endpoint without http:// or https://"},
		{category: "OTLP", name: "otlp-ca-file", holder: "FILE", otherwise: "the system's", parse: text(&c.otlp.CAFile),
			usage: "CA certificates (PEM) to verify the collector's certificate"},
		{category: "OTLP", name: "otlp-cert-file", holder: "FILE", parse: text(&c.otlp.CertFile),
			usage: "promflow's own certificate (PEM), if the collector asks for one"},
		{category: "OTLP", name: "otlp-key-file", holder: "FILE", parse: text(&c.otlp.KeyFile),
			usage: "the key (PEM) of promflow's own certificate"},
		{category: "OTLP", name: "otlp-headers", holder: "LIST", secret: true, parse: headers(&c.otlp.Headers),
			usage: "headers of each push, such as authorization=Bearer%20abc,tenant=lab"},
		{category: "OTLP", name: "otlp-headers-file", holder: "FILE", parse: text(&c.otlp.HeadersFile),
			usage: "more headers, such a list or one in each line, so that others do not see them in the list of processes"},
		{category: "OTLP", name: "otlp-compression", holder: "HOW", otherwise: otlp.NoCompression, chosen: &c.otlp.Compression, choices: []string{otlp.NoCompression, otlp.Gzip},
			usage: "none or gzip"},
		{category: "OTLP", name: "otlp-temporality", holder: "WHICH", otherwise: otlp.Cumulative, chosen: &c.otlp.Temporality, choices: []string{otlp.Cumulative, otlp.Delta},
			usage: "cumulative: push totals; delta: push what was added since the last push that arrived"},
		{category: "OTLP", name: "otlp-interval", holder: "TIME", otherwise: "60s", parse: duration(&c.otlp.Interval),
			usage: "time between two pushes"},
		{category: "OTLP", name: "otlp-timeout", holder: "TIME", otherwise: "5s", parse: duration(&c.otlp.Timeout),
			usage: "how long a message of a push may take"},

		{category: "Privileges", name: "user", holder: "USER", byDefault: privilege.DefaultUser, parse: userOf(&c.user),
			usage: "if root starts promflow, the user that it becomes once everything is open: a number or name, maybe with a group,\nas in promflow:promflow. root keeps all capabilities, others only those that are still needed"},

		{category: "Logging", name: "log-level", holder: "LEVEL", byDefault: "info", choices: []string{"debug", "info", "warn", "error"}, parse: level(&c.logLevel),
			usage: "the least severe messages to log: debug, info, warn or error"},
		{category: "Logging", name: "log-format", holder: "FORMAT", byDefault: "text", chosen: &c.logFormat, choices: []string{"text", "json"},
			usage: "text or json, to standard error"},
	}.withDefaults()
	return c.all
}

// settings is a list of flags.
type settings []*setting

// withDefaults gives all of them their defaults.
func (s settings) withDefaults() settings {
	for _, each := range s {
		if each.byDefault != "" {
			must(each.set(each.byDefault))
		}
	}
	return s
}

// flags makes cli's flags.
func (s settings) flags() []cli.Flag {
	var flags []cli.Flag
	for _, each := range s {
		flags = append(flags, each)
	}
	return flags
}

// named gives the settings of these names, in their order here. It panics if there is none of a name.
func (s settings) named(names ...string) settings {
	found := slices.DeleteFunc(slices.Clone(s), func(each *setting) bool { return !slices.Contains(names, each.name) })
	if len(found) != len(names) {
		panic(fmt.Sprintf("%d of the settings %q exist", len(found), names))
	}
	return found
}

// refuse gives an error if a flag was given that is not among the known ones.
func (s settings) refuse(known settings) error {
	for _, each := range s {
		if each.given && !slices.Contains(known, each) {
			return fmt.Errorf("--%s means nothing to this command", each.name)
		}
	}
	return nil
}

// resolve completes the values that the command line gave with those of the environment.
func (s settings) resolve() error {
	for _, each := range s {
		if err := each.resolve(); err != nil {
			return err
		}
	}
	return nil
}

func interfaceNames(dst *watch.Names) func(string) error {
	return func(s string) (err error) {
		*dst, err = watch.ParseNames(s)
		return err
	}
}

func subnetList(dst *subnets.Set) func(string) error {
	return func(s string) (err error) {
		*dst, err = subnets.Parse(s)
		return err
	}
}

func unnamedSubnets(dst *subnets.Set) func(string) error {
	return func(s string) error {
		if err := subnetList(dst)(s); err != nil {
			return err
		}
		if dst.Named() {
			return errors.New("expected subnets without names")
		}
		return nil
	}
}

func labelList(dst *labels.Set) func(string) error {
	return func(s string) (err error) {
		*dst, err = labels.Parse(s)
		return err
	}
}

// prefixLength parses the length of a prefix of so many bits at most.
func prefixLength(dst *int, bits int) func(string) error {
	return func(s string) (err error) {
		*dst, err = labels.ParseHostBits(s, bits)
		return err
	}
}

func someSubnets(dst *subnets.Set) func(string) error {
	return func(s string) error {
		if err := subnetList(dst)(s); err != nil {
			return err
		}
		if dst.Empty() {
			return errors.New("expected at least one subnet such as 192.168.0.0/24")
		}
		return nil
	}
}

func userOf(dst *privilege.User) func(string) error {
	return func(s string) (err error) {
		*dst, err = privilege.ParseUser(s)
		return err
	}
}

func headers(dst *map[string]string) func(string) error {
	return func(s string) (err error) {
		*dst, err = otlp.ParseHeaders(s)
		return err
	}
}

// fileList parses a list of files, which may be empty.
func fileList(dst *[]string) func(string) error {
	return func(s string) error {
		*dst = []string{}
		for name := range strings.SplitSeq(s, ",") {
			if name = strings.TrimSpace(name); name != "" {
				*dst = append(*dst, name)
			}
		}
		return nil
	}
}

func level(dst *slog.Level) func(string) error {
	return func(s string) error {
		if dst.UnmarshalText([]byte(s)) != nil {
			return errors.New("expected debug, info, warn or error")
		}
		return nil
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

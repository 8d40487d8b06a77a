package app

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"promflow/app/history"
	"promflow/app/live"
	"promflow/app/privilege"
	"promflow/app/web"
	"promflow/capture"
	"promflow/capture/labels"
	"promflow/capture/subnets"
	"promflow/capture/watch"
	"promflow/telemetry/otlp"
)

// config holds the values of the program's flags and variables.
type config struct {
	interfaces    watch.Names
	waitInterface bool
	promiscuous   bool
	mirror        bool
	backend       string
	flows         flows

	monitored, excluded subnets.List
	packets             bool
	maxIPs              int
	expireAfter         time.Duration

	labels    labels.Set
	peers     subnets.List
	hostBits  labels.HostBits
	maxSeries int // 0: derived from maxIPs

	hostInfo       bool
	namesFile      string
	leaseFiles     []string // nil: not given
	reverseDNS     bool
	reverseDNSRate int // questions a minute
	mdns           bool

	kept kept

	exporters     []string // nil: not given
	addresses     []web.Address
	socketMode    fs.FileMode
	lifecycle     bool
	webConfigFile string
	noUI          bool
	webHosts      []string
	otlp          otlp.Config

	user privilege.User

	end func() // ends the program in order; set by run

	logLevel  slog.Level
	logFormat string

	all settings
}

// table returns an empty table of the configured size and labels. Addresses expire after being idle for expireAfter; 0 is never.
func (c *config) table(expireAfter time.Duration) *capture.Table {
	if c.labels == 0 && c.hostBits == (labels.HostBits{}) {
		return capture.NewTable(c.maxIPs, expireAfter)
	}
	series := cmp.Or(c.maxSeries, max(4*c.maxIPs, 4096))
	return capture.NewGroupedTable(c.maxIPs, expireAfter, labels.New(c.labels, c.hostBits, c.lists().Changing()), series)
}

// explainLabels logs settings that have no effect without a label, and labels that may be unexpected.
func (c *config) explainLabels(monitored subnets.Set, log *slog.Logger) {
	if c.labels == 0 && c.maxSeries > 0 {
		log.Warn("--max-series has no effect without --labels", c.givenBy("max-series"), c.maxSeries)
	}
	hasPeer := c.labels.Has(labels.Peer)
	if !hasPeer && !c.peers.Empty() {
		log.Warn("--peer-subnets has no effect without --labels=peer", c.givenBy("peer-subnets"), c.peers)
	}
	for i, prefix := range monitored.Prefixes() {
		if hasPeer && prefix.Bits() == 0 {
			log.Info("all addresses of this IP version are monitored: none has the peer \"external\" (see --monitor-subnets)",
				"monitored", prefix, "peer", monitored.Name(i))
		}
	}
}

// givenBy returns the flag or variable that set a setting, for messages. It returns the flag if the setting has its default.
func (c *config) givenBy(name string) string {
	return cmp.Or(c.all.named(name)[0].givenBy, "--"+name)
}

// isGiven reports whether a flag or variable set a setting.
func (c *config) isGiven(name string) bool { return c.all.named(name)[0].givenBy != "" }

// settings returns the settings of the program, and sets c to their defaults.
func (c *config) settings() settings {
	c.all = slices.Concat(settings{
		{category: "Capture", name: "interface", holder: "LIST", byDefault: "eth0", parse: into(&c.interfaces, watch.ParseNames), repeats: true,
			usage: "the network interfaces whose packets are counted: names, and globs such as ppp*, separated by commas;\nmay be given several times"},
		{category: "Capture", name: "wait-interface", byDefault: "false", parse: boolean(&c.waitInterface),
			usage: "start even if an interface is not there yet, and capture it as soon as it is"},
		{category: "Capture", name: "capture", holder: "BACKEND", byDefault: live.Automatic, text: &c.backend,
			choices: slices.Concat([]string{live.Automatic}, live.Backends(), live.OnRequest(), flowProtocols()),
			usage: "how packets are captured: " + live.Automatic + " takes the first that works of " + strings.Join(live.Backends(), ", ") +
				onRequestUsage() + ".\n" + strings.Join(flowProtocols(), " and ") + " count what routers and switches report instead, without an interface"},
		{category: "Capture", name: "promiscuous", byDefault: "true", parse: boolean(&c.promiscuous),
			usage: "ask the interface for packets that are not addressed to this machine, as on a mirror port"},
		{category: "Capture", name: "mirror", byDefault: "false", parse: boolean(&c.mirror),
			usage: "drop frames to MAC addresses of other machines once they are counted, before the kernel takes pains with them, as on\na mirror port; with --capture=xdp only"},
	}, c.flows.settings(), settings{
		{category: "Counting", name: "monitor-subnets", holder: "LIST", byDefault: "192.168.0.1/24", parse: into(&c.monitored, subnets.ParseList),
			usage: "the addresses that are counted: IPv4 and IPv6 subnets, separated by commas; auto for those of the interfaces, as\naddresses come and go; @FILE for a file of subnets. One may have a name for --labels, as in lan=192.168.0.0/24.\n0.0.0.0/0,::/0 counts all"},
		{category: "Counting", name: "exclude-subnets", holder: "LIST", byDefault: "255.255.255.250/32", parse: into(&c.excluded, subnets.ParseList),
			usage: "packets going to or coming from these subnets, or those in @FILE, are not counted; an empty list excludes nothing"},
		{category: "Counting", name: "packets", byDefault: "false", parse: boolean(&c.packets),
			usage: "count packets, too"},
		{category: "Counting", name: "max-ips", holder: "N", byDefault: strconv.Itoa(capture.DefaultLimit), parse: number(&c.maxIPs, 1, 1<<30),
			usage: `how many addresses are counted separately; all others count as ip="other"`},

		{category: "Counting", name: "expire-after", holder: "TIME", byDefault: "24h", parse: duration(&c.expireAfter, 0),
			usage: "how long an address may be idle before it leaves the page; it keeps its total for its return while there is\nroom for it. 0 is for ever"},

		{category: "Labels", name: "labels", holder: "LIST", choices: labels.Names(), parse: into(&c.labels, labels.Parse),
			usage: "labels that split the totals of an address: " + strings.Join(labels.Names(), ", ") + ", or some of these"},
		{category: "Labels", name: "peer-subnets", holder: "LIST", parse: into(&c.peers, subnets.ParseList),
			usage: "further subnets that the label peer knows, as in vpn=10.8.0.0/16, or @FILE"},
		{category: "Labels", name: "max-series", holder: "N", otherwise: "4 for each of --max-ips, at least 4096", parse: number(&c.maxSeries, 1, 1<<24),
			usage: `how many combinations of labels are counted separately, over all addresses; labels of others are "other"`},
		{category: "Labels", name: "aggregate", holder: "/LENGTH", parse: prefixLength(&c.hostBits.V4, 32),
			usage: `count IPv4 by prefixes of this length instead of by address: /24 gives ip="192.168.1.0/24"`},
		{category: "Labels", name: "aggregate6", holder: "/LENGTH", parse: prefixLength(&c.hostBits.V6, 128),
			usage: "the same for IPv6"},

		{category: "Names", name: "host-info", byDefault: "false", parse: boolean(&c.hostInfo),
			usage: "add hostnames and MAC addresses, as promflow_host_info, to be joined by ip"},
		{category: "Names", name: "names-file", holder: "FILE", text: &c.namesFile,
			usage: "names of your own, which win over all others: in each line an address, a prefix or a MAC, and a name"},
		{category: "Names", name: "lease-files", holder: "LIST", otherwise: "the well-known ones that exist", parse: into(&c.leaseFiles, parseFiles),
			usage: "where DHCP servers keep hostnames and MACs: lease files of dnsmasq, Kea, ISC dhcpd and systemd-networkd, separated\nby commas, or globs of such; an empty list reads none"},
		{category: "Names", name: "reverse-dns", byDefault: "true", parse: boolean(&c.reverseDNS),
			usage: "ask this machine's resolver for hostnames that no file has"},
		{category: "Names", name: "reverse-dns-rate", holder: "N", byDefault: "240", parse: number(&c.reverseDNSRate, 1, 299),
			usage: "how many questions a minute the resolver gets"},
		{category: "Names", name: "mdns", byDefault: "true", parse: boolean(&c.mdns),
			usage: "ask hosts on the same links for their names, by multicast DNS, if nothing else has one"},

		{category: "History", name: "data-dir", holder: "DIR", text: &c.kept.dir,
			usage: "keep totals across restarts, and what each address moved by hour, day and month, in this directory; see promflow\nusage"},
		{category: "History", name: "history-interval", holder: "TIME", byDefault: history.DefaultInterval.String(), parse: duration(&c.kept.interval, time.Second),
			usage: "time between two writes. What was counted since the last one is lost in a power cut; what ends in order loses\nnothing"},
		{category: "History", name: "history-retention", holder: "LIST", byDefault: "5m=2d,1h=35d,1d=396d,1mo=0", parse: into(&c.kept.retention, parseRetention),
			usage: "how long five minutes, hours, days and months are kept; 0 is for ever"},
		{category: "History", name: "history-size", holder: "SIZE", byDefault: "256MiB", parse: into(&c.kept.size, parseSize),
			usage: "how much may be in use on disk; the oldest periods go before it is more"},
		{category: "History", name: "month-starts-on", holder: "DAY", byDefault: "1", parse: number(&c.kept.monthStartsOn, 1, 31),
			usage: "the day on which a month of the history starts, such as that of a provider; the last one where a month is shorter"},

		{category: "Metrics", name: "exporters", holder: "LIST", otherwise: "prometheus, and otlp where there is an endpoint", choices: append(exporterNames(), "none"), parse: into(&c.exporters, parseExporters),
			usage: "where metrics go: " + strings.Join(exporterNames(), ", ") + " (standard output), or none. The default is\nOTEL_METRICS_EXPORTER, if set"},
		{category: "Metrics", name: "metrics-address", holder: "LIST", byDefault: ":9088", parse: into(&c.addresses, web.ParseAddresses), repeats: true,
			usage: "where to serve /metrics: HOST:PORT or unix:///PATH, separated by commas; may be given several times. Without a\nhost on all addresses, 0.0.0.0:PORT IPv4 only, [::]:PORT IPv6 only; none opens no port"},
		{category: "Metrics", name: "metrics-socket-mode", holder: "MODE", byDefault: "0660", parse: into(&c.socketMode, web.ParseSocketMode),
			usage: "the permissions of Unix sockets of --metrics-address, in octal"},
		{category: "Metrics", name: "web-config-file", holder: "FILE", text: &c.webConfigFile,
			usage: "TLS and basic authentication, as for every Prometheus exporter:\nhttps://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md"},
		{category: "Metrics", name: "no-ui", byDefault: "false", parse: boolean(&c.noUI),
			usage: "serve no live page at /, and nothing for promflow top and usage"},
		{category: "Metrics", name: "enable-lifecycle", byDefault: "false", parse: boolean(&c.lifecycle),
			usage: "have POST /-/reload do what SIGHUP does"},
		{category: "Metrics", name: "web-hosts", holder: "LIST", parse: into(&c.webHosts, parseHosts),
			usage: "further names under which browsers and promflow top reach this server, separated by commas; IP addresses,\nlocalhost and the hostname need no mention"},

		{category: "OTLP", name: "otlp-endpoint", holder: "ENDPOINT", text: &c.otlp.Endpoint,
			usage: "push to this OpenTelemetry collector: host:port or http://host:port in plain text,\nhttps://host:port with TLS. Without it OTEL_EXPORTER_OTLP_ENDPOINT is followed, if set"},
		{category: "OTLP", name: "otlp-protocol", holder: "PROTOCOL", otherwise: "http/protobuf for an endpoint with port 4318, else grpc", text: &c.otlp.Protocol, choices: []string{otlp.GRPC, otlp.HTTPProtobuf},
			usage: "grpc, whose default port is 4317, or http/protobuf, whose default port is 4318. Without it\nOTEL_EXPORTER_OTLP_PROTOCOL is followed, if set"},
		{category: "OTLP", name: "otlp-insecure", otherwise: "as the endpoint says", parse: into(&c.otlp.Insecure, parseOptionalBool),
			usage: "whether to push in plain text to an endpoint without http:// or https://"},
		{category: "OTLP", name: "otlp-ca-file", holder: "FILE", otherwise: "the system's", text: &c.otlp.CAFile,
			usage: "CA certificates (PEM) to verify the collector's certificate"},
		{category: "OTLP", name: "otlp-cert-file", holder: "FILE", text: &c.otlp.CertFile,
			usage: "promflow's own certificate (PEM), if the collector asks for one"},
		{category: "OTLP", name: "otlp-key-file", holder: "FILE", text: &c.otlp.KeyFile,
			usage: "the key (PEM) of promflow's own certificate"},
		{category: "OTLP", name: "otlp-headers", holder: "LIST", secret: true, parse: into(&c.otlp.Headers, otlp.ParseHeaders),
			usage: "headers of each push, such as authorization=Bearer%20abc,tenant=lab"},
		{category: "OTLP", name: "otlp-headers-file", holder: "FILE", text: &c.otlp.HeadersFile,
			usage: "a file with more headers, as a list or one in each line; unlike a flag, it does not show in the list of processes"},
		{category: "OTLP", name: "otlp-compression", holder: "HOW", otherwise: otlp.NoCompression, text: &c.otlp.Compression, choices: []string{otlp.NoCompression, otlp.Gzip},
			usage: "none or gzip"},
		{category: "OTLP", name: "otlp-temporality", holder: "WHICH", otherwise: otlp.Cumulative, text: &c.otlp.Temporality, choices: []string{otlp.Cumulative, otlp.Delta},
			usage: "cumulative: push totals; delta: push what was added since the last push that arrived"},
		{category: "OTLP", name: "otlp-interval", holder: "TIME", otherwise: "60s", parse: duration(&c.otlp.Interval, 1),
			usage: "time between two pushes"},
		{category: "OTLP", name: "otlp-timeout", holder: "TIME", otherwise: "5s", parse: duration(&c.otlp.Timeout, 1),
			usage: "how long a message of a push may take"},

		{category: "Privileges", name: "user", holder: "USER", byDefault: privilege.DefaultUser, parse: into(&c.user, privilege.ParseUser),
			usage: "if root starts promflow, the user that it becomes once everything is open: a number or name, maybe with a group,\nas in promflow:promflow. root keeps all capabilities, others only those that are still needed"},

		{category: "Logging", name: "log-level", holder: "LEVEL", byDefault: "info", choices: []string{"debug", "info", "warn", "error"}, parse: into(&c.logLevel, parseLevel),
			usage: "the least severe messages to log: debug, info, warn or error"},
		{category: "Logging", name: "log-format", holder: "FORMAT", byDefault: "text", text: &c.logFormat, choices: []string{"text", "json"},
			usage: "text or json, to standard error"},
	}).withDefaults()
	return c.all
}

// onRequestUsage tells of backends that Automatic never takes.
func onRequestUsage() string {
	if len(live.OnRequest()) == 0 {
		return ""
	}
	return ";\nxdp counts in the driver of the network card, before all else"
}

// prefixLength parses the length of a prefix of at most so many bits.
func prefixLength(dst *int, bits int) func(string) error {
	return into(dst, func(s string) (int, error) { return labels.ParseHostBits(s, bits) })
}

// elements returns what is between the commas of a list, without spaces. It is not nil.
func elements(list string) []string {
	all := []string{}
	for element := range strings.SplitSeq(list, ",") {
		if element = strings.TrimSpace(element); element != "" {
			all = append(all, element)
		}
	}
	return all
}

// parseFiles parses a list of files and globs.
func parseFiles(s string) ([]string, error) {
	files := elements(s)
	for _, file := range files {
		if _, err := filepath.Match(file, ""); err != nil {
			return nil, fmt.Errorf("%q is neither a file nor a glob such as /tmp/hosts/odhcpd.hosts.*", file)
		}
	}
	return files, nil
}

func parseHosts(s string) (hosts []string, err error) {
	for _, name := range elements(s) {
		name = strings.TrimSuffix(name, ".")
		if strings.ContainsAny(name, ":/* \t[]@") {
			return nil, fmt.Errorf("%q: expected names such as router.example.net, without http:// and port", name)
		}
		hosts = append(hosts, name)
	}
	return hosts, nil
}

func parseLevel(s string) (level slog.Level, err error) {
	if level.UnmarshalText([]byte(s)) != nil {
		err = errors.New("expected debug, info, warn or error")
	}
	return level, err
}

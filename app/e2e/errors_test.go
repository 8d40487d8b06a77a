package e2e

import (
	"net"
	"path/filepath"
	"strings"
	"testing"

	"promflow/capture/nettest"
)

// loopback names the interface that every machine has.
func loopback(t *testing.T) string {
	t.Helper()
	all, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, each := range all {
		if each.Flags&net.FlagLoopback != 0 {
			return each.Name
		}
	}
	nettest.Lacks(t, "a loopback interface")
	return ""
}

// TestErrors has the program refuse what is wrong, before it opens a capture.
func TestErrors(t *testing.T) {
	lo, dir := loopback(t), t.TempDir()
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	_, busyPort, _ := net.SplitHostPort(busy.Addr().String())
	notYAML := write(t, "not.yml", "tls_server_config: {\nbasic_auth_users: [")
	unknownKeys := write(t, "unknown.yml", "tls_servers: 1\nbasic: 2\n")
	noCertificate := write(t, "no-certificate.yml", "tls_server_config: {cert_file: nosuch.crt, key_file: nosuch.key}\n")
	text := write(t, "notes.txt", "This file is no capture, but a longer text.\n")

	for _, c := range []struct {
		env  string // NAME=value
		args []string
		want []string
	}{
		{"", []string{"--nosuch"}, []string{"-nosuch", "see promflow --help"}},
		{"", []string{"check", "--nosuch"}, []string{"-nosuch", "promflow check --help"}},
		{"", []string{"replay", "--nosuch"}, []string{"-nosuch", "promflow replay --help"}},
		{"", []string{"--interface"}, []string{"-interface", "needs an argument"}},
		{"", []string{"record"}, []string{`"record"`, "replay"}},
		{"", []string{"--promiscuous", "false"}, []string{`"false"`}},
		{"", []string{"--capture=afpacket", "--capture=afpacket"}, []string{`--capture "afpacket"`, "twice"}},
		{"", []string{"--max-ips", "7", "--packets", "--max-ips", "8"}, []string{`--max-ips "8"`, "twice"}},
		{"", []string{"--max-ips=x", "--max-ips=8"}, []string{"--max-ips", `"x"`}},
		{"", []string{"--monitor-subnets=10.0.0.0/8", "--monitor-subnets=10.0.0.0/8"}, []string{`--monitor-subnets "10.0.0.0/8"`, "twice"}},
		{"", []string{"--exclude-subnets=", "--exclude-subnets=10.0.0.0/8", "--exclude-subnets=10.0.0.0/8"}, []string{"--exclude-subnets", "twice"}},
		{"", []string{"--packets", "--packets"}, []string{"--packets", "twice"}},
		{"", []string{"--promiscuous", "--promiscuous=false"}, []string{"--promiscuous", "twice"}},
		{"", []string{"-no-ui", "--no-ui"}, []string{"--no-ui", "twice"}},
		{"", []string{"--otlp-headers=a=secret", "--otlp-headers=a=secret"}, []string{"--otlp-headers", "twice"}},
		{"PROMFLOW_LOG_FORMAT=json", []string{"--log-format=text", "--log-format=text"}, []string{"--log-format", "twice"}},
		{"", []string{"check", "--duration=1s", "--duration=1s"}, []string{"--duration", "twice"}},
		{"", []string{"top", "--reverse", "--reverse"}, []string{"--reverse", "twice"}},
		{"", []string{"health", "--timeout=1s", "--timeout=1s"}, []string{"--timeout", "twice"}},
		{"", []string{"--max-ips=7", "replay", "--max-ips=7", text}, []string{"--max-ips", "twice"}},
		{"", []string{"--interface=nosuch0"}, []string{"--interface", `"nosuch0"`, lo}},
		{"", []string{"--interface="}, []string{"--interface", `""`, lo}},
		{"", []string{"--monitor-subnets=10.0.0.0/8,10.0.0.0/33"}, []string{"--monitor-subnets", `"10.0.0.0/33"`}},
		{"", []string{"--monitor-subnets="}, []string{"--monitor-subnets", "at least one"}},
		{"", []string{"--exclude-subnets", "router"}, []string{"--exclude-subnets", `"router"`}},
		{"PROMFLOW_MONITOR_SUBNETS=10.0.0.0\n/8", nil, []string{"PROMFLOW_MONITOR_SUBNETS", `10.0.0.0\n/8`}},
		{"", []string{"--max-ips=0"}, []string{"--max-ips", `"0"`, "from 1"}},
		{"", []string{"--max-ips=1e6"}, []string{"--max-ips", `"1e6"`, "whole number"}},
		{"", []string{"--max-ips=99999999999999999999"}, []string{"--max-ips", "whole number"}},
		{"PROMFLOW_INTERFACE=nosuch", nil, []string{`PROMFLOW_INTERFACE "nosuch"`, lo}},
		{"PROMFLOW_METRICS_ADDRESS=9088", []string{"--interface", lo}, []string{`PROMFLOW_METRICS_ADDRESS "9088"`}},
		{"PROMFLOW_MAX_IPS=many", nil, []string{"PROMFLOW_MAX_IPS", `"many"`}},
		{"", []string{"--promiscuous=maybe"}, []string{"--promiscuous", `"maybe"`, "true or false"}},
		{"PROMFLOW_PACKETS=yes", nil, []string{"PROMFLOW_PACKETS", `"yes"`, "true or false"}},
		{"", []string{"--capture=pcap"}, []string{"--capture", `"pcap"`, "auto, ebpf, afpacket"}},
		{"", []string{"--log-level=loud"}, []string{"--log-level", `"loud"`, "debug, info, warn or error"}},
		{"", []string{"--log-format=xml"}, []string{"--log-format", `"xml"`, "text, json"}},
		{"", []string{"--otlp-interval=5"}, []string{"--otlp-interval", `"5"`, "15s"}},
		{"", []string{"--otlp-timeout=-1s"}, []string{"--otlp-timeout", `"-1s"`}},

		{"", []string{"--interface", lo, "--metrics-address=127.0.0.1:" + busyPort}, []string{"--metrics-address", "port " + busyPort, "in use"}},
		{"", []string{"--interface", lo, "--metrics-address=9088"}, []string{"--metrics-address", `"9088"`, ":9088"}},
		{"", []string{"--interface", lo, "--metrics-address=:99999"}, []string{"--metrics-address", `":99999"`}},
		{"", []string{"--interface", lo, "--metrics-address="}, []string{"--metrics-address", `""`}},
		{"", []string{"--interface", lo, "--web-config-file=nosuch.yml"}, []string{"--web-config-file", `"nosuch.yml"`}},
		{"", []string{"--interface", lo, "--web-config-file", dir}, []string{"--web-config-file", "is a directory"}},
		{"", []string{"--interface", lo, "--web-config-file", notYAML}, []string{"--web-config-file", notYAML, "yaml"}},
		{"", []string{"--interface", lo, "--web-config-file", unknownKeys}, []string{"--web-config-file", "tls_servers", "basic"}},
		{"", []string{"--interface", lo, "--web-config-file", noCertificate}, []string{"--web-config-file", "nosuch.crt"}},

		{"", push(lo, "--otlp-endpoint=ftp://x"), []string{"--otlp-endpoint", `"ftp://x"`, "http://"}},
		{"", push(lo, "--otlp-endpoint=localhost:port"), []string{"--otlp-endpoint", `"localhost:..."`}},
		{"", push(lo, "--otlp-endpoint=https://x", "--otlp-insecure"), []string{"--otlp-endpoint", `"https://x"`, "insecure"}},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=x:y", push(lo), []string{"OTEL_EXPORTER_OTLP_ENDPOINT", `"x:..."`}},
		{"", push(lo, "--otlp-protocol=http"), []string{"--otlp-protocol", `"http"`, "http/protobuf"}},
		{"", push(lo, "--otlp-endpoint=https://x", "--otlp-ca-file=/no/such.pem"), []string{"--otlp-ca-file", "/no/such.pem"}},
		{"", push(lo, "--otlp-endpoint=https://x", "--otlp-cert-file=/no/such.pem"), []string{"--otlp-cert-file", "/no/such.pem", "key"}},
		{"OTEL_EXPORTER_OTLP_CERTIFICATE=/no/such.pem", push(lo, "--otlp-endpoint=https://x"), []string{"OTEL_EXPORTER_OTLP_CERTIFICATE", "/no/such.pem"}},
		{"", push(lo, "--otlp-endpoint=x", "--otlp-ca-file=ca.pem"), []string{"--otlp-endpoint", "plain text", "https://"}},
		{"", push(lo, "--otlp-endpoint=x", "--otlp-headers-file=/no/such"), []string{"--otlp-headers-file", "/no/such"}},
		{"", push(lo, "--otlp-endpoint=x", "--otlp-headers-file=/dev/null"), []string{"--otlp-headers-file", "/dev/null", "regular file"}},
		{"", push(lo, "--exporters=statsd"), []string{"--exporters", `"statsd"`, "prometheus, otlp, console", "none"}},
		{"", []string{"--interface=lo", "--metrics-address=none", "--exporters=prometheus", "--otlp-endpoint=x"}, []string{"--metrics-address", "--exporters has only prometheus"}},
		{"", []string{"--interface=lo", "--metrics-address=none"}, []string{"--metrics-address", "none", "--otlp-endpoint"}},
		{"", push(lo, "--otlp-endpoint=x", "--otlp-headers=secret"), []string{"--otlp-headers", "key=value"}},
		{"", push(lo, "--otlp-endpoint=x", "--otlp-headers=a b=secret"), []string{"--otlp-headers", "header 1"}},
		{"", push(lo, "--otlp-headers=secret"), []string{"--otlp-headers"}}, // even where nothing is pushed

		{"", []string{"usage", "--data-dir="}, []string{`usage: --data-dir "": expected a directory`}},
		{"", []string{"usage", "--data-dir=", "--data-dir="}, []string{`--data-dir "": expected a directory`}},
		{"PROMFLOW_DATA_DIR=/tmp", []string{"usage", "--data-dir="}, []string{`--data-dir "": expected a directory`}},
		{"", []string{"usage", "--data-dir=nosuch"}, []string{`usage: --data-dir "nosuch": there is no history`}},

		{"", []string{"replay"}, []string{"no capture file"}},
		{"", []string{"replay", "nosuch.pcap"}, []string{"nosuch.pcap", "no such file"}},
		{"", []string{"replay", text, "nosuch.pcap"}, []string{"nosuch.pcap", "no such file"}},
		{"", []string{"replay", text, "--packets"}, []string{"--packets", "before"}},
		{"", []string{"replay", dir}, []string{dir, "is a directory"}},
		{"", []string{"replay", text}, []string{text, "not a capture file"}},
		{"", []string{"replay", "-"}, []string{"standard input", "is empty"}},
		{"", []string{"replay", "--interface=" + lo, text}, []string{"-interface"}},
		{"", []string{"--max-ips=x", "replay", text}, []string{"--max-ips", `"x"`}},
		{"PROMFLOW_EXCLUDE_SUBNETS=x", []string{"replay", text}, []string{"PROMFLOW_EXCLUDE_SUBNETS", `"x"`}},
	} {
		t.Run(strings.ReplaceAll(strings.Join(append([]string{c.env}, c.args...), " "), dir, filepath.Base(dir)), func(t *testing.T) {
			if name, value, ok := strings.Cut(c.env, "="); ok {
				t.Setenv(name, value)
			}
			cmd := promflow(t, c.args...)
			cmd.Dir = dir
			line, printed := fails(t, cmd)
			for _, w := range c.want {
				if !strings.Contains(line, w) {
					t.Errorf("said %q, which lacks %q", line, w)
				}
			}
			if strings.Contains(line, "secret") || printed != "" {
				t.Errorf("said %q and printed %q", line, printed)
			}
		})
	}
}

func push(iface string, args ...string) []string {
	return append([]string{"--interface", iface, "--metrics-address=127.0.0.1:0"}, args...)
}

package e2e

import (
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"promflow/app/live"
	"promflow/app/web"
	"promflow/capture"
	"promflow/capture/replay"
	"promflow/capture/subnets"
	"promflow/telemetry"
	"promflow/telemetry/page"
	"promflow/telemetry/talkers"
)

// serveCounts serves the counts of a capture file as run serves those of an interface, and gives the address.
func serveCounts(t *testing.T, file []byte, webConfigFile string) string {
	t.Helper()
	server := serverOfCounts(t, file, webConfigFile)
	return "127.0.0.1:" + server.Port()
}

// serverOfCounts is the server behind serveCounts.
func serverOfCounts(t testing.TB, file []byte, webConfigFile string) *web.Server {
	t.Helper()
	c := web.Config{Addresses: []web.Address{{Network: "tcp4", Address: "127.0.0.1:0"}}, File: webConfigFile}
	table := capture.NewTable(capture.DefaultLimit, 0)
	counter := capture.NewCounter(table.Monitor(capture.Subnets{Monitored: subnetsOf(t, "192.168.0.0/16")}))
	if _, err := replay.Count(t.Context(), strings.NewReader(string(file)), "file", counter, ""); err != nil {
		t.Fatal(err)
	}
	m := live.Monitor{Table: table, Interfaces: func() []telemetry.Interface {
		return []telemetry.Interface{{Name: "eth0", Backend: "afpacket", Up: true, Outcomes: live.Outcomes(counter.Outcomes())}}
	}}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	page, err := page.New(telemetry.NewSource(m.Read, false), log)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := web.Listen(c, log)
	if err != nil {
		t.Fatal(err)
	}
	server := web.New(c, listener, page, map[string]web.API{talkers.Path: {Handler: talkers.New(m.Read), Most: 64}}, log)
	provider := telemetry.New("", log, page)
	ended := make(chan error)
	go func() { ended <- server.Serve() }()
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := provider.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return server
}

func subnetsOf(t testing.TB, list string) subnets.Set {
	t.Helper()
	s, err := subnets.Parse(list)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// contractTraffic is what an example of the first promflow had counted.
func contractTraffic() []byte {
	var packets [][]byte
	for size := 194179; size > 0; size -= 1433 {
		packets = append(packets, ipv4("203.0.113.1", "192.168.1.133", min(size, 1433)))
	}
	for size := 181358; size > 0; size -= 1493 {
		packets = append(packets, ipv4("192.168.1.133", "203.0.113.1", min(size, 1493)))
	}
	return pcap(packets...)
}

const contractLines = `# HELP promflow_receive_bytes_total Network-layer bytes received by an IP address in the monitored subnets.
# TYPE promflow_receive_bytes_total counter
promflow_receive_bytes_total{ip="192.168.1.133"} 194179
# HELP promflow_transmit_bytes_total Network-layer bytes transmitted by an IP address in the monitored subnets.
# TYPE promflow_transmit_bytes_total counter
promflow_transmit_bytes_total{ip="192.168.1.133"} 181358
`

func TestMetricsPageIsTheContracts(t *testing.T) {
	address := serveCounts(t, contractTraffic(), "")
	for _, encoding := range []string{"", "gzip"} {
		t.Run(encoding, func(t *testing.T) {
			response, body := request(t, http.DefaultClient, "http://"+address+"/metrics", func(r *http.Request) {
				r.Header.Set("Accept-Encoding", encoding) // so that the client leaves it as it is
			})
			if got := response.Header.Get("Content-Encoding"); got != encoding {
				t.Fatalf("encoding is %q, want %q", got, encoding)
			}
			if encoding == "gzip" {
				z, err := gzip.NewReader(strings.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				unpacked, err := io.ReadAll(z)
				if err != nil {
					t.Fatal(err)
				}
				body = string(unpacked)
			}
			if got := response.Header.Get("Content-Type"); !strings.HasPrefix(got, "text/plain; version=0.0.4;") {
				t.Errorf("content type is %q", got)
			}
			var got, names strings.Builder
			for line := range strings.Lines(body) {
				if strings.Contains(line, "promflow_receive_") || strings.Contains(line, "promflow_transmit_") {
					got.WriteString(line)
				}
				if name, ok := strings.CutPrefix(line, "# TYPE promflow_"); ok {
					names.WriteString(strings.Fields(name)[0] + " ")
				}
			}
			if got.String() != contractLines {
				t.Errorf("the page has\n%s\nwant\n%s", &got, contractLines)
			}
			const want = "build_info capture_bytes_total capture_dropped_packets_total capture_packets_total capture_up " +
				"receive_bytes_total tracked_ips tracked_ips_limit transmit_bytes_total "
			if names.String() != want {
				t.Errorf("the page has %s, want %s", &names, want)
			}
		})
	}
}

// request asks for a page, after edit has had its way with the request.
func request(t *testing.T, client *http.Client, url string, edit func(*http.Request)) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	edit(r)
	response, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(body)
}

func TestPages(t *testing.T) {
	address := serveCounts(t, pcap(), "")
	for _, c := range []struct {
		path   string
		status int
		want   string
	}{
		{"/", 200, "<title>promflow</title>"},
		{"/assets/page.js", 200, "import "},
		{"/page.html", 404, ""},
		{"/assets/page.html", 404, ""},
		{"/assets/", 404, ""},
		{"/assets/nosuch", 404, ""},
		{"/api/v1/talkers?limit=1", 200, `"interfaces":[{"name":"eth0"`},
		{"/api/v1/talkers?limit=no", 400, `limit="no": expected a number`},
		{"/metrics", 200, "\npromflow_tracked_ips 0\n"},
		{"/-/healthy", 200, "OK"},
		{"/-/ready", 200, "OK"},
		{"/nosuch", 404, ""},
		{"/metrics/", 404, ""},
		{"/-/", 404, ""},
		{"/debug/pprof/", 404, ""},
		{"/metrics?x=%zz", 200, "promflow_tracked_ips"},
	} {
		t.Run(c.path, func(t *testing.T) {
			response, body := request(t, http.DefaultClient, "http://"+address+c.path, func(*http.Request) {})
			if response.StatusCode != c.status || !strings.Contains(body, c.want) {
				t.Errorf("%s: %s", response.Status, body)
			}
		})
	}
}

func TestTalkersAreOnlyRead(t *testing.T) {
	address := serveCounts(t, pcap(), "")
	for method, status := range map[string]int{"GET": 200, "HEAD": 200, "POST": 405, "OPTIONS": 405} {
		response, _ := request(t, http.DefaultClient, "http://"+address+"/api/v1/talkers", func(r *http.Request) { r.Method = method })
		if response.StatusCode != status || (status == 405) != (response.Header.Get("Allow") == "GET, HEAD") {
			t.Errorf("%s: %s, allowed are %q", method, response.Status, response.Header.Get("Allow"))
		}
	}
}

func TestWebConfigFile(t *testing.T) {
	certificate, key, pool := selfSigned(t)
	hash, err := bcrypt.GenerateFromPassword([]byte("open sesame"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	address := serveCounts(t, contractTraffic(), write(t, "web.yml", fmt.Sprintf(
		"tls_server_config: {cert_file: %s, key_file: %s}\nbasic_auth_users: {ali: %s}\n", certificate, key, hash)))

	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	for _, c := range []struct {
		user, password string
		status         int
	}{
		{"ali", "open sesame", 200},
		{"ali", "open barley", 401},
		{"cassim", "open sesame", 401},
		{"", "", 401},
	} {
		for path, content := range map[string]string{
			"/metrics": "promflow_receive_bytes_total{", "/": "<h1>", "/assets/page.js": "import ", talkers.Path: `"interfaces":`,
		} {
			t.Run(c.user+":"+c.password+path, func(t *testing.T) {
				response, body := request(t, client, "https://"+address+path, func(r *http.Request) {
					if c.user != "" {
						r.SetBasicAuth(c.user, c.password)
					}
				})
				if response.StatusCode != c.status || strings.Contains(body, content) != (c.status == 200) {
					t.Errorf("%s: %s", response.Status, body)
				}
			})
		}
	}
	if response, _ := request(t, http.DefaultClient, "http://"+address+"/metrics", func(*http.Request) {}); response.StatusCode != 400 {
		t.Errorf("without TLS: %s", response.Status)
	}
}

// selfSigned makes a certificate for 127.0.0.1 and its key, in files, and a pool that trusts it.
func selfSigned(t testing.TB) (certificate, key string, pool *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	inPEM := func(kind string, b []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}))
	}
	pool = x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(inPEM("CERTIFICATE", der)))
	return write(t, "server.crt", inPEM("CERTIFICATE", der)), write(t, "server.key", inPEM("PRIVATE KEY", pkcs8)), pool
}

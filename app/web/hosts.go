package web

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"

	"promflow/telemetry/talkers"
)

// ownSite serves the live page and its data to browsers only if they ask on behalf of this server's own page. Other websites cannot read
// answers from another origin, but a website may have its name resolve to the address of this server (DNS rebinding), and is the same
// origin then. So the server answers for IP addresses, localhost, the hostname of this machine, and the names in hosts. Browsers say on
// behalf of whom they ask (Sec-Fetch-Site) only to servers with TLS and to localhost.
func ownSite(h http.Handler, hosts []string) http.Handler {
	names := append([]string{"localhost"}, hosts...)
	if name, err := os.Hostname(); err == nil {
		short, _, _ := strings.Cut(name, ".")
		names = append(names, name, short, short+".local") // as mDNS has it
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		site, mode := r.Header.Get("Sec-Fetch-Site"), r.Header.Get("Sec-Fetch-Mode")
		host := hostOf(r.Host)
		_, err := netip.ParseAddr(host)
		byTop := r.Header.Get(talkers.TopHeader) != "" // which no script of a website can set
		switch {
		case site == "cross-site" && (mode != "navigate" || r.URL.Path != "/"): // a link to the page is fine
			http.Error(w, "requests of other websites are refused", http.StatusForbidden)
		case err != nil && host != "" && !byTop && !slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, host) }):
			http.Error(w, fmt.Sprintf("this promflow does not have the name %q: use its IP address, or add the name to --web-hosts", host), http.StatusForbidden)
		default:
			h.ServeHTTP(w, r)
		}
	})
}

// hostOf returns the name or IP address in a Host header, without its port, brackets, zone and final dot.
func hostOf(header string) string {
	host := header
	if name, _, err := net.SplitHostPort(header); err == nil {
		host = name
	}
	host, _, _ = strings.Cut(strings.Trim(host, "[]"), "%")
	return strings.TrimSuffix(host, ".")
}

// readOnly answers 405 to methods other than GET and HEAD, and keeps browsers from guessing content types.
func readOnly(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "expected GET", http.StatusMethodNotAllowed)
			return
		}
		h.ServeHTTP(w, r)
	})
}

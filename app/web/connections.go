package web

import (
	"context"
	"crypto/tls"
	"errors"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// maxConnections is how many clients may be connected. It leaves room for other files where a process may have 1024.
const maxConnections = 512

// maxStreams is how many requests a client may have at a time with HTTP/2.
const maxStreams = 4

// http2Weight is how many connections one counts as that speaks HTTP/2: net/http keeps much more for it, such as up to 10,000 answers to
// pings that a client does not read.
const http2Weight = 4

// minIdle is how long a connection is idle before it may have to make room while others leave answers unread: its request may be on the way.
const minIdle = time.Second

// maxResets is how many requests on a connection a client may take back in a minute while they are being answered.
const maxResets = 20

// sendBuffer is how much of an answer the kernel keeps for a client that does not read, in bytes. Linux takes twice as much memory. Without it,
// that may become megabytes, and they count as the program's.
const sendBuffer = 128 << 10

// receiveBuffer is how much of requests the kernel keeps, in bytes: likewise.
const receiveBuffer = 32 << 10

// connections bounds the connections of a server. A new one beyond the bound closes another, of the IP address that has most: the one that
// has been idle for longest, or if none has been for minIdle, the one whose client has left a part of an answer unread for longest. If all
// of these read or wait for an answer, the new one is closed. A connection is idle while no request on it is being answered, also while a request
// arrives byte by byte.
type connections struct {
	most int

	mu     sync.Mutex
	open   map[net.Conn]*connection
	weight int            // of all that are open
	byIP   map[string]int // how many each client has
}

type connection struct {
	net.Conn
	ip        string
	weight    int
	answers   map[*answer]bool // that are being given
	idleSince time.Time        // zero while there are some
	resets    int              // of requests that were taken back
	since     time.Time        // resets are of this time on
}

// unreadSince is since when the client has not read a part, and zero if it reads or waits for one.
func (c *connection) unreadSince() time.Time {
	_, since := earliest(maps.Keys(c.answers), (*answer).unreadSince)
	return since
}

func newConnections(most int) *connections {
	return &connections{most: most, open: map[net.Conn]*connection{}, byIP: map[string]int{}}
}

type connectionKey struct{}

// limit bounds the connections of a server.
func (c *connections) limit(s *http.Server) {
	s.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		if tcp, ok := raw(conn).(*net.TCPConn); ok {
			_ = errors.Join(tcp.SetWriteBuffer(sendBuffer), tcp.SetReadBuffer(receiveBuffer)) // it fails only if the connection is closed
		}
		return context.WithValue(ctx, connectionKey{}, c.add(conn))
	}
	s.ConnState = func(conn net.Conn, state http.ConnState) {
		switch secure, ok := conn.(*tls.Conn); {
		case state == http.StateClosed || state == http.StateHijacked:
			c.remove(conn)
		case state == http.StateActive && ok && secure.ConnectionState().NegotiatedProtocol == "h2":
			c.weigh(conn, http2Weight)
		}
	}
}

// follow takes note of the answers that a handler gives. It must be called by answers.
func (c *connections) follow(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if one, ok := r.Context().Value(connectionKey{}).(*connection); ok {
			a := w.(*answer)
			if r.ProtoMajor >= 2 {
				a.conn = one.Conn
			}
			c.begin(one, a)
			takenBack := false
			defer func() { c.end(one, a, takenBack) }()
			h.ServeHTTP(w, r)
			takenBack = r.Context().Err() != nil // before finish, which ends the request
			a.finish()
			return
		}
		h.ServeHTTP(w, r)
	})
}

// add takes a connection, and closes one if there are too many.
func (c *connections) add(conn net.Conn) *connection {
	c.mu.Lock()
	defer c.mu.Unlock()
	added := &connection{Conn: conn, ip: ipOf(conn.RemoteAddr().String()), answers: map[*answer]bool{}}
	c.open[conn] = added
	c.byIP[added.ip]++
	c.grow(added, 1)
	added.idleSince = time.Now()
	return added
}

// weigh changes the weight of a connection, and closes others if that is too much.
func (c *connections) weigh(conn net.Conn, weight int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if one := c.open[conn]; one != nil {
		c.grow(one, weight-one.weight)
	}
}

// grow adds to the weight of a connection. The caller holds mu.
func (c *connections) grow(one *connection, weight int) {
	one.weight += weight
	c.weight += weight
	for c.weight > c.most {
		c.drop(c.leastActive(one))
	}
}

// leastActive returns the connection that is closed for another one, which may be that itself. The caller holds mu.
func (c *connections) leastActive(added *connection) *connection {
	most := 0
	for one := range maps.Values(c.open) {
		if one != added {
			most = max(most, c.byIP[one.ip])
		}
	}
	busiest := func(timeOf func(*connection) time.Time) func(*connection) time.Time {
		return func(one *connection) time.Time {
			if one == added || c.byIP[one.ip] < most {
				return time.Time{}
			}
			return timeOf(one)
		}
	}
	idle, idleSince := earliest(maps.Values(c.open), busiest(func(one *connection) time.Time { return one.idleSince }))
	if !idleSince.IsZero() && time.Since(idleSince) >= minIdle {
		return idle
	}
	unread, unreadSince := earliest(maps.Values(c.open), busiest((*connection).unreadSince))
	switch {
	case !unreadSince.IsZero():
		return unread
	case !idleSince.IsZero():
		return idle
	}
	return added
}

// drop closes a connection. The caller holds mu.
func (c *connections) drop(one *connection) {
	c.forget(one)
	_ = closeNow(one.Conn) // the server notices
}

// forget takes a connection out of the count. The caller holds mu.
func (c *connections) forget(one *connection) {
	delete(c.open, one.Conn)
	c.weight -= one.weight
	if c.byIP[one.ip]--; c.byIP[one.ip] == 0 {
		delete(c.byIP, one.ip)
	}
}

// ipOf returns the IP address of a client at an address, or its subnet: somebody with IPv6 has a /64 at least. It is empty for clients of a
// Unix socket, which count as one.
func ipOf(address string) string {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return ""
	}
	if ip := at.Addr().Unmap(); ip.Is6() {
		subnet, _ := ip.WithZone("").Prefix(64)
		return subnet.String()
	}
	return at.Addr().Unmap().String()
}

// closeNow closes a connection without a word to the client, which may not read: TLS would wait for it, and the kernel would keep what is unread.
func closeNow(conn net.Conn) error {
	conn = raw(conn)
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // it fails only if the connection is closed
	}
	return conn.Close()
}

// raw returns the connection below TLS.
func raw(conn net.Conn) net.Conn {
	if secure, ok := conn.(*tls.Conn); ok {
		return secure.NetConn()
	}
	return conn
}

func (c *connections) remove(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if one := c.open[conn]; one != nil {
		c.forget(one)
	}
}

func (c *connections) begin(one *connection, a *answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	one.answers[a] = true
	one.idleSince = time.Time{}
}

// end ends an answer. takenBack tells that the client has taken its request back.
func (c *connections) end(one *connection, a *answer, takenBack bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(one.answers, a)
	if len(one.answers) == 0 {
		one.idleSince = time.Now()
	}
	if takenBack {
		if time.Since(one.since) > time.Minute {
			one.resets, one.since = 0, time.Now()
		}
		one.resets++
	}
	if one.resets > maxResets && c.open[one.Conn] != nil {
		c.drop(one)
	}
}

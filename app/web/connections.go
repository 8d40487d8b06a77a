package web

import (
	"context"
	"crypto/tls"
	"maps"
	"net"
	"net/http"
	"sync"
	"time"
)

// maxConnections is how many clients may be connected. It leaves room for other files where a process may have 1024.
const maxConnections = 512

// maxStreams is how many requests a client may have at a time with HTTP/2.
const maxStreams = 4

// sendBuffer is how much of an answer the kernel keeps for a client that does not read, in bytes. Linux takes twice as much memory. Without it,
// that may become megabytes, and they count as the program's.
const sendBuffer = 128 << 10

// connections bounds the connections of a server. A new one beyond the bound closes another: the one that has been idle for longest, or if none
// is idle, the one whose client has left a part of an answer unread for longest. If all others read or wait for an answer, the new one is
// closed. A connection is idle while no request on it is being answered, also while a request arrives byte by byte.
type connections struct {
	most int
	mu   sync.Mutex
	open map[net.Conn]*connection
}

type connection struct {
	net.Conn
	answers   map[*answer]bool // that are being given
	idleSince time.Time        // zero while there are some
}

// unreadSince is since when the client has not read a part, and zero if it reads or waits for one.
func (c *connection) unreadSince() time.Time {
	_, since := earliest(maps.Keys(c.answers), (*answer).unreadSince)
	return since
}

func newConnections(most int) *connections {
	return &connections{most: most, open: map[net.Conn]*connection{}}
}

type connectionKey struct{}

// limit bounds the connections of a server.
func (c *connections) limit(s *http.Server) {
	s.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		if tcp, ok := raw(conn).(*net.TCPConn); ok {
			_ = tcp.SetWriteBuffer(sendBuffer) // it fails only if the connection is closed
		}
		return context.WithValue(ctx, connectionKey{}, c.add(conn))
	}
	s.ConnState = func(conn net.Conn, state http.ConnState) {
		if state == http.StateClosed || state == http.StateHijacked {
			c.remove(conn)
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
			defer c.end(one, a)
		}
		h.ServeHTTP(w, r)
	})
}

// add takes a connection, and closes one if there are too many.
func (c *connections) add(conn net.Conn) *connection {
	c.mu.Lock()
	defer c.mu.Unlock()
	added := &connection{Conn: conn, answers: map[*answer]bool{}}
	c.open[conn] = added
	if all := maps.Values(c.open); len(c.open) > c.most {
		least, since := earliest(all, func(one *connection) time.Time { return one.idleSince })
		if since.IsZero() {
			least, since = earliest(all, (*connection).unreadSince)
		}
		if since.IsZero() { // all others read or wait
			least = added
		}
		delete(c.open, least.Conn)
		_ = closeNow(least.Conn) // the server notices
	}
	added.idleSince = time.Now()
	return added
}

// closeNow closes a connection without a word to the client, which may not read: TLS would wait for it.
func closeNow(conn net.Conn) error { return raw(conn).Close() }

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
	delete(c.open, conn)
}

func (c *connections) begin(one *connection, a *answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	one.answers[a] = true
	one.idleSince = time.Time{}
}

func (c *connections) end(one *connection, a *answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(one.answers, a)
	if len(one.answers) == 0 {
		one.idleSince = time.Now()
	}
}

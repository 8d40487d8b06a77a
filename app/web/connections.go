package web

import (
	"context"
	"crypto/tls"
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
	answers   map[*answer]bool // that are being given
	idleSince time.Time        // if there are none
}

// unreadSince is since when the client has not read a part, and zero if it reads or waits for one.
func (c *connection) unreadSince() (since time.Time) {
	for a := range c.answers {
		if at := a.unreadSince(); since.IsZero() || !at.IsZero() && at.Before(since) {
			since = at
		}
	}
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
		c.add(conn)
		return context.WithValue(ctx, connectionKey{}, conn)
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
		if conn, ok := r.Context().Value(connectionKey{}).(net.Conn); ok {
			a := w.(*answer)
			c.begin(conn, a)
			defer c.end(conn, a)
		}
		h.ServeHTTP(w, r)
	})
}

// add takes a connection, and closes one if there are too many.
func (c *connections) add(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open[conn] = &connection{answers: map[*answer]bool{}, idleSince: time.Now()}
	if len(c.open) > c.most {
		c.drop(c.leastActive(conn))
	}
}

// leastActive returns the connection that is closed for a new one, which is the new one itself if all others wait for an answer. The
// caller holds mu.
func (c *connections) leastActive(added net.Conn) net.Conn {
	var idle, unread net.Conn
	var idleSince, unreadSince time.Time
	for conn, one := range c.open {
		if len(one.answers) == 0 {
			if conn != added && (idle == nil || one.idleSince.Before(idleSince)) {
				idle, idleSince = conn, one.idleSince
			}
		} else if since := one.unreadSince(); !since.IsZero() && (unread == nil || since.Before(unreadSince)) {
			unread, unreadSince = conn, since
		}
	}
	switch {
	case idle != nil:
		return idle
	case unread != nil:
		return unread
	}
	return added
}

// drop closes a connection. The caller holds mu.
func (c *connections) drop(conn net.Conn) {
	delete(c.open, conn)
	_ = closeNow(conn) // the server notices
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

func (c *connections) begin(conn net.Conn, a *answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if one := c.open[conn]; one != nil { // else it was closed
		one.answers[a] = true
	}
}

func (c *connections) end(conn net.Conn, a *answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if one := c.open[conn]; one != nil {
		delete(one.answers, a)
		one.idleSince = time.Now()
	}
}

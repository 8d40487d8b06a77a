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

// connections bounds the connections of a server: a new one beyond the bound closes the one that has been idle for longest. A connection
// is idle while no request on it is being answered, also while a request arrives byte by byte. So clients that finish their requests are
// served, however many others are connected.
type connections struct {
	most int
	mu   sync.Mutex
	open map[net.Conn]*connection
}

type connection struct {
	requests  int       // that are being answered
	idleSince time.Time // if there are none
}

func newConnections(most int) *connections {
	return &connections{most: most, open: map[net.Conn]*connection{}}
}

type connectionKey struct{}

// limit bounds the connections of a server.
func (c *connections) limit(s *http.Server) {
	s.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		c.add(conn)
		return context.WithValue(ctx, connectionKey{}, conn)
	}
	s.ConnState = func(conn net.Conn, state http.ConnState) {
		if state == http.StateClosed || state == http.StateHijacked {
			c.remove(conn)
		}
	}
	handler := s.Handler
	s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if conn, ok := r.Context().Value(connectionKey{}).(net.Conn); ok {
			c.answer(conn, 1)
			defer c.answer(conn, -1)
		}
		handler.ServeHTTP(w, r)
	})
}

// add takes a connection, and closes one if there are too many.
func (c *connections) add(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.open) >= c.most {
		c.dropIdle()
	}
	c.open[conn] = &connection{idleSince: time.Now()}
}

// dropIdle closes the connection that has been idle for longest, if one is idle. The caller holds mu.
func (c *connections) dropIdle() {
	var (
		idle   net.Conn
		oldest *connection
	)
	for conn, one := range c.open {
		if one.requests == 0 && (oldest == nil || one.idleSince.Before(oldest.idleSince)) {
			idle, oldest = conn, one
		}
	}
	if idle == nil {
		return
	}
	delete(c.open, idle)
	if secure, ok := idle.(*tls.Conn); ok {
		idle = secure.NetConn() // closing TLS writes to the client, and waits if that does not read
	}
	idle.Close() // the server notices
}

func (c *connections) remove(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, conn)
}

// answer adds to the requests on a connection that are being answered.
func (c *connections) answer(conn net.Conn, more int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if one := c.open[conn]; one != nil { // else it was closed
		one.requests += more
		one.idleSince = time.Now()
	}
}

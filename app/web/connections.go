package web

import (
	"container/list"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
)

// maxConnections is how many clients may be connected. It leaves room for other files where a process may have 1024.
const maxConnections = 512

// connections keeps clients from being too many: one more, and the connection is closed that was idle for longest, which is any
// whose request is not being answered, be it that none has come yet or that one comes byte by byte. So who asks is served, however
// many others are there that do not.
type connections struct {
	most int

	mu   sync.Mutex
	open map[net.Conn]*connection
	idle *list.List // of *connection, that was idle for longest first
}

type connection struct {
	net.Conn
	requests int           // that are being answered
	place    *list.Element // in idle, else nil
}

func newConnections(most int) *connections {
	return &connections{most: most, open: map[net.Conn]*connection{}, idle: list.New()}
}

type connectionKey struct{}

// limit has a server tell of its connections.
func (c *connections) limit(s *http.Server) {
	s.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		return context.WithValue(ctx, connectionKey{}, c.add(conn))
	}
	s.ConnState = func(conn net.Conn, state http.ConnState) {
		if state == http.StateClosed || state == http.StateHijacked {
			c.remove(conn)
		}
	}
	handler := s.Handler
	s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if of, known := r.Context().Value(connectionKey{}).(*connection); known {
			c.answer(of, 1)
			defer c.answer(of, -1)
		}
		handler.ServeHTTP(w, r)
	})
}

// add takes a connection, and closes one if that is one too many.
func (c *connections) add(conn net.Conn) *connection {
	c.mu.Lock()
	defer c.mu.Unlock()
	one := &connection{Conn: conn}
	one.place = c.idle.PushBack(one)
	c.open[conn] = one
	if oldest := c.idle.Front(); len(c.open) > c.most && oldest.Value != one {
		c.drop(oldest.Value.(*connection))
	}
	return one
}

// drop closes a connection. The caller holds mu.
func (c *connections) drop(one *connection) {
	c.idle.Remove(one.place)
	one.place = nil
	delete(c.open, one.Conn)
	conn := one.Conn
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn() // else a client that does not read could hold this up
	}
	conn.Close() // and the server finds out
}

func (c *connections) remove(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if one := c.open[conn]; one != nil {
		if one.place != nil {
			c.idle.Remove(one.place)
			one.place = nil
		}
		delete(c.open, conn)
	}
}

// answer adds to the requests of a connection that are being answered.
func (c *connections) answer(one *connection, more int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open[one.Conn] == nil { // closed
		return
	}
	one.requests += more
	switch {
	case one.requests == 0:
		one.place = c.idle.PushBack(one)
	case one.place != nil:
		c.idle.Remove(one.place)
		one.place = nil
	}
}

package web

import (
	"net"
	"testing"
	"time"
)

// TestLeastActiveConnectionIsClosed fills a server with clients that idle, wait for an answer, or do not read it.
func TestLeastActiveConnectionIsClosed(t *testing.T) {
	c := newConnections(3)
	pipe := func() *connection {
		here, there := net.Pipe()
		t.Cleanup(func() { there.Close() })
		return c.add(here)
	}
	begun := map[*connection]*answer{}
	begin := func(conn *connection) *answer {
		begun[conn] = new(answer)
		c.begin(conn, begun[conn])
		return begun[conn]
	}
	end := func(conn *connection) { c.end(conn, begun[conn], t.Context()) }
	are := func(when string, open, closed []*connection) {
		t.Helper()
		for i, conn := range append(open, closed...) {
			if err := conn.SetDeadline(time.Time{}); (err != nil) != (i >= len(open)) {
				t.Errorf("%s: connection %d of the %d that should be open and the %d that should be closed: %v", when, i, len(open), len(closed), err)
			}
		}
		if len(c.open) != len(open) {
			t.Errorf("%s: %d are open, want %d", when, len(c.open), len(open))
		}
	}
	type conns = []*connection

	first, second, third := pipe(), pipe(), pipe()
	begin(first)
	fourth := pipe()
	are("one more", conns{first, third, fourth}, conns{second})
	begin(third)
	end(third)
	fifth := pipe()
	are("another one was idle for longer", conns{first, third, fifth}, conns{second, fourth})
	end(fourth) // which a server says late
	begin(third)
	begin(fifth)
	sixth := pipe()
	are("all others wait", conns{first, third, fifth}, conns{sixth})
	long, short := time.Now().Add(-2*time.Second), time.Now().Add(-time.Second)
	begun[first].writing.Store(&short)
	begun[third].writing.Store(&long)
	seventh := pipe()
	are("two do not read", conns{first, fifth, seventh}, conns{third})
	eighth := pipe()
	are("one is idle, one does not read", conns{first, fifth, eighth}, conns{seventh})
	c.remove(first.Conn)
	c.remove(first.Conn)
	ninth := pipe()
	are("there was room", conns{fifth, eighth, ninth}, nil)
}

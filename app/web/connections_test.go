package web

import (
	"net"
	"testing"
	"time"
)

// connOf is a connection of a client with an IP address.
type connOf struct {
	net.Conn
	ip string
}

func (c connOf) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.ParseIP(c.ip), Port: 1} }

// TestTheBusiestClientMakesRoom has clients of two addresses, of which one has more connections.
func TestTheBusiestClientMakesRoom(t *testing.T) {
	c := newConnections(8)
	add := func(ip string) *connection {
		here, there := net.Pipe()
		t.Cleanup(func() { there.Close() })
		return c.add(connOf{here, ip})
	}
	isOpen := func(one *connection) bool { return one.SetDeadline(time.Time{}) == nil }
	scrape := add("192.0.2.1") // and idle for longest
	var busy []*connection
	for range 7 {
		busy = append(busy, add("192.0.2.2"))
	}
	given := new(answer)
	for _, one := range busy[1:] {
		c.begin(one, given)
	}
	another := add("192.0.2.1")
	if !isOpen(scrape) || !isOpen(another) || isOpen(busy[0]) {
		t.Error("the idle one of the busiest client is not the one that is closed")
	}
	third := add("192.0.2.3")
	if isOpen(third) || !isOpen(scrape) {
		t.Error("if all others wait, the new one is not closed")
	}
	// One that speaks HTTP/2 counts as several, but not as several of its client.
	c.remove(another.Conn)
	for _, one := range busy[1:4] {
		c.end(one, given, false)
	}
	c.weigh(scrape.Conn, http2Weight)
	if c.weight > c.most || !isOpen(scrape) {
		t.Errorf("the weight is %d, want %d at most; the other client is connected: %v", c.weight, c.most, isOpen(scrape))
	}
	for _, one := range append(busy, scrape, another, third) {
		c.remove(one.Conn)
	}
	if c.weight != 0 || len(c.byIP) != 0 || len(c.open) != 0 {
		t.Errorf("%d, %v and %d stay when all have gone", c.weight, c.byIP, len(c.open))
	}
}

// TestClientThatTakesRequestsBack lets a client do so some times.
func TestClientThatTakesRequestsBack(t *testing.T) {
	c := newConnections(8)
	here, there := net.Pipe()
	t.Cleanup(func() { there.Close() })
	one := c.add(here)
	for n := range 2 * maxResets {
		a := new(answer)
		c.begin(one, a)
		c.end(one, a, false)
		c.begin(one, a)
		c.end(one, a, true)
		if open := here.SetDeadline(time.Time{}) == nil; open != (n < maxResets) {
			t.Fatalf("after %d requests that were taken back it is open: %v", n+1, open)
		}
	}
}

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
	end := func(conn *connection) { c.end(conn, begun[conn], false) }
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
	seventh.idleSince = time.Now().Add(-minIdle)
	eighth := pipe()
	are("one is idle, one does not read", conns{first, fifth, eighth}, conns{seventh})
	c.remove(first.Conn)
	c.remove(first.Conn)
	ninth := pipe()
	are("there was room", conns{fifth, eighth, ninth}, nil)
}

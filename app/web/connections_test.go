package web

import (
	"net"
	"testing"
	"time"
)

// TestConnectionsThatAreAnsweredStay fills a server with clients while one waits for its answer.
func TestConnectionsThatAreAnsweredStay(t *testing.T) {
	c := newConnections(3)
	pipe := func() net.Conn {
		here, there := net.Pipe()
		t.Cleanup(func() { there.Close() })
		c.add(here)
		return here
	}
	closed := func(conn net.Conn) bool { return conn.SetDeadline(time.Time{}) != nil }
	idle := func() (n int) {
		for _, one := range c.open {
			if one.requests == 0 {
				n++
			}
		}
		return n
	}
	first, second, third := pipe(), pipe(), pipe()
	c.answer(first, 1)
	fourth := pipe()
	if closed(first) || !closed(second) || closed(third) || closed(fourth) {
		t.Error("not the one that was idle for longest was closed")
	}
	c.answer(third, 1)
	c.answer(third, -1)
	fifth := pipe()
	if closed(first) || closed(third) || !closed(fourth) || closed(fifth) {
		t.Error("one was closed that was idle for less than another")
	}
	c.answer(fourth, -1) // which a server says late
	c.answer(first, -1)
	c.remove(first)
	c.remove(first)
	if len(c.open) != 2 || idle() != 2 {
		t.Errorf("%d are open, %d idle, want 2", len(c.open), idle())
	}
	pipe()
	if closed(third) || closed(fifth) {
		t.Error("one was closed though there was room")
	}
}

package web

import (
	"errors"
	"net"
	"strings"
	"sync"
)

// merged is several listeners as one, since exporter-toolkit serves one only.
type merged struct {
	all      []net.Listener
	accepted chan accepted
	closed   chan struct{}
	close    sync.Once
}

type accepted struct {
	conn net.Conn
	err  error
}

// merge returns one listener for some.
func merge(all []net.Listener) net.Listener {
	if len(all) == 1 {
		return all[0]
	}
	m := &merged{all: all, accepted: make(chan accepted), closed: make(chan struct{})}
	for _, l := range all {
		go m.acceptFrom(l)
	}
	return m
}

func (m *merged) acceptFrom(l net.Listener) {
	for {
		conn, err := l.Accept()
		select {
		case m.accepted <- accepted{conn, err}: // the server waits after an error, such as that there are too many open files
		case <-m.closed:
			if conn != nil {
				conn.Close()
			}
			return
		}
	}
}

func (m *merged) Accept() (net.Conn, error) {
	select {
	case a := <-m.accepted:
		return a.conn, a.err
	case <-m.closed:
		return nil, net.ErrClosed
	}
}

func (m *merged) Close() (err error) {
	m.close.Do(func() {
		close(m.closed)
		for _, l := range m.all {
			err = errors.Join(err, l.Close())
		}
	})
	return err
}

func (m *merged) Addr() net.Addr {
	var all addrs
	for _, l := range m.all {
		all = append(all, l.Addr())
	}
	return all
}

// addrs is several addresses as one.
type addrs []net.Addr

func (a addrs) Network() string { return a[0].Network() }

func (a addrs) String() string {
	var all []string
	for _, each := range a {
		all = append(all, each.String())
	}
	return strings.Join(all, ",")
}

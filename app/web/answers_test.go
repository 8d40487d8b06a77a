package web

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"
)

// TestAnswersBeyondTheBound has clients wait for answers, and then not read them.
func TestAnswersBeyondTheBound(t *testing.T) {
	const most = 3
	arrived, gate, ended := make(chan struct{}), make(chan struct{}), make(chan error, 2*most)
	handler := bounded(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		arrived <- struct{}{}
		<-gate
		var err error
		for i := 0; i < 64 && err == nil; i++ {
			_, err = w.Write(make([]byte, 1<<20))
		}
		ended <- err
	}), most)
	server := httptest.NewServer(answers(handler, deadline))
	t.Cleanup(server.Close) // once the clients have gone
	send := func(path string) net.Conn {
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.0\r\n\r\n", path); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	for range most {
		send("/long")
		<-arrived
	}
	refusal, err := io.ReadAll(send("/long"))
	if text := string(refusal); err != nil || !strings.Contains(text, " 503 ") || !strings.Contains(text, "3 clients wait") || !strings.Contains(text, "Retry-After") {
		t.Errorf("with all waiting, a further client gets %q, %v", text, err)
	}
	close(gate)
	for range 2 { // as soon as a client is known not to read, it makes room
		for {
			conn := send("/long")
			select {
			case <-arrived:
			case <-refused(conn):
				continue
			}
			break
		}
		if err := first(ended); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the client that did not read for longest ended with %v", err)
		}
	}
}

// refused is closed once a client was refused. It reads no more than that.
func refused(conn net.Conn) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		head := make([]byte, len("HTTP/1.0 503"))
		if _, err := io.ReadFull(conn, head); err == nil && string(head[9:]) == "503" {
			close(done)
		}
	}()
	return done
}

// first returns the first error that is one.
func first(all <-chan error) error {
	for {
		if err := <-all; err != nil {
			return err
		}
	}
}

// stuck is a client whose deadline cannot be set yet, as with HTTP/2 while the connection's goroutine is busy.
type stuck struct {
	http.ResponseWriter
	asked, release chan struct{}
}

func (s stuck) SetWriteDeadline(time.Time) error {
	close(s.asked)
	<-s.release
	return nil
}

// TestNobodyWaitsForADeadline asks whether an answer is unread while its deadline cannot be set: who asks may hold a lock that the connection's
// goroutine needs.
func TestNobodyWaitsForADeadline(t *testing.T) {
	s := stuck{httptest.NewRecorder(), make(chan struct{}), make(chan struct{})}
	a := &answer{ResponseWriter: s, control: http.NewResponseController(s), stall: deadline}
	extended, told := make(chan error), make(chan time.Time)
	go func() { extended <- a.extend() }()
	<-s.asked
	go func() { told <- a.unreadSince() }()
	select {
	case <-told:
	case <-time.After(deadline):
		t.Error("it waits for the deadline")
	}
	close(s.release)
	if err := <-extended; err != nil {
		t.Error(err)
	}
}

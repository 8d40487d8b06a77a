package web

import (
	"fmt"
	"iter"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// stallTimeout is how long a client may leave a part of an answer unread.
const stallTimeout = 30 * time.Second

// partSize is how much of an answer is written at a time, in bytes.
const partSize = 64 << 10

// answer writes to a client. Each part of it has a deadline of its own: a client that reads slowly gets the whole answer, one that does not
// read is cut off.
type answer struct {
	http.ResponseWriter
	control *http.ResponseController
	conn    net.Conn // of a client that speaks HTTP/2, else nil
	stall   time.Duration
	writing atomic.Pointer[time.Time] // since when a part is being written; nil if none is

	mu    sync.Mutex
	fixed bool // the deadline is for all that follows
}

func (a *answer) Write(b []byte) (written int, err error) {
	defer a.writing.Store(nil)
	for part := range slices.Chunk(b, partSize) {
		if err := a.extend(); err != nil {
			return written, err
		}
		n, err := a.ResponseWriter.Write(part)
		written += n
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

// extend begins a part.
func (a *answer) extend() error {
	now := time.Now()
	a.writing.Store(&now)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.fixed {
		return nil
	}
	return a.control.SetWriteDeadline(now.Add(a.stall))
}

// minUnread is how long a client has not read before it may have to make room for another one. One that reads takes less for a part.
const minUnread = 100 * time.Millisecond

// unreadSince is since when the client has not read a part, and zero if it reads or waits for one.
func (a *answer) unreadSince() time.Time {
	if began := a.writing.Load(); began != nil && time.Since(*began) >= minUnread {
		return *began
	}
	return time.Time{}
}

// earliest returns which of all has the earliest time, and that time. It is zero if none has a time.
func earliest[T any](all iter.Seq[T], timeOf func(T) time.Time) (found T, at time.Time) {
	for each := range all {
		if t := timeOf(each); !t.IsZero() && (at.IsZero() || t.Before(at)) {
			found, at = each, t
		}
	}
	return found, at
}

// SetWriteDeadline is for http.ResponseController. A deadline of the handler is for this write and all that follow. If it has passed, the
// client is cut off: with HTTP/2 that takes closing the connection, since the server could only write that the answer has ended.
func (a *answer) SetWriteDeadline(deadline time.Time) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fixed = true
	if a.conn != nil && !deadline.After(time.Now()) {
		return closeNow(a.conn)
	}
	return a.control.SetWriteDeadline(deadline)
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// bodyTimeout is how long the server reads the body of a request that it refuses.
const bodyTimeout = time.Second

// answers has a handler write to an answer. It refuses requests with a body: net/http reads the body before it writes the answer, and a
// scrape with a slow body would hold its slot for long.
func answers(h http.Handler, stall time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a := &answer{ResponseWriter: w, control: http.NewResponseController(w), stall: stall}
		if r.ContentLength != 0 {
			w.Header().Set("Connection", "close")
			_ = a.control.SetReadDeadline(time.Now().Add(bodyTimeout)) // it fails only if the connection is closed
			http.Error(a, "expected a request without a body", http.StatusRequestEntityTooLarge)
		} else {
			h.ServeHTTP(a, r)
		}
		_ = a.extend() // net/http writes what it has buffered, after this function
	})
}

// bounded lets a handler give so many answers at a time. A further one cuts off the client that has left a part of one unread for longest. If
// all read or wait, it is refused.
func bounded(h http.Handler, most int) http.Handler {
	var mu sync.Mutex
	given := map[*answer]bool{}
	begin := func(a *answer) bool {
		mu.Lock()
		defer mu.Unlock()
		if len(given) >= most {
			longest, since := earliest(maps.Keys(given), (*answer).unreadSince)
			if since.IsZero() {
				return false
			}
			delete(given, longest)
			_ = longest.SetWriteDeadline(time.Now()) // it fails only if the connection is closed
		}
		given[a] = true
		return true
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a := w.(*answer)
		if !begin(a) {
			w.Header().Set("Retry-After", "1")
			if a.conn != nil { // a client of HTTP/2 may leave no window for a body
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			http.Error(w, fmt.Sprintf("%d clients wait for an answer, try again later", most), http.StatusServiceUnavailable)
			return
		}
		defer func() {
			mu.Lock()
			defer mu.Unlock()
			delete(given, a)
		}()
		h.ServeHTTP(w, r)
	})
}

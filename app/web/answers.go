package web

import (
	"fmt"
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
	stall   time.Duration
	unread  atomic.Pointer[time.Time] // when the part began that the client has not read; nil if there is none

	mu    sync.Mutex
	fixed bool // the deadline is for all that follows
}

func (a *answer) Write(b []byte) (written int, err error) {
	defer a.unread.Store(nil)
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
	a.unread.Store(&now)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.fixed {
		return nil
	}
	return a.control.SetWriteDeadline(now.Add(a.stall))
}

// unreadSince is since when the client has not read, and zero if it reads or nothing is being written.
func (a *answer) unreadSince() time.Time {
	if began := a.unread.Load(); began != nil {
		return *began
	}
	return time.Time{}
}

// SetWriteDeadline is for http.ResponseController. A deadline of the handler is for this write and all that follow.
func (a *answer) SetWriteDeadline(deadline time.Time) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fixed = true
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
		control := http.NewResponseController(w)
		if err := control.SetWriteDeadline(time.Time{}); err != nil { // of an earlier answer on this connection
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		if r.ContentLength != 0 {
			w.Header().Set("Connection", "close")
			_ = control.SetReadDeadline(time.Now().Add(bodyTimeout)) // it fails only if the connection is closed
			http.Error(w, "expected a request without a body", http.StatusRequestEntityTooLarge)
			return
		}
		h.ServeHTTP(&answer{ResponseWriter: w, control: control, stall: stall}, r)
	})
}

// bounded lets a handler give so many answers at a time. A further one cuts off the client that has left a part of one unread for longest. If
// all wait for an answer, it is refused.
func bounded(h http.Handler, most int) http.Handler {
	var mu sync.Mutex
	given := map[*answer]bool{}
	begin := func(a *answer) bool {
		mu.Lock()
		defer mu.Unlock()
		if len(given) >= most {
			var longest *answer
			var unreadSince time.Time
			for each := range given {
				if since := each.unreadSince(); !since.IsZero() && (longest == nil || since.Before(unreadSince)) {
					longest, unreadSince = each, since
				}
			}
			if longest == nil {
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

package web

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
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

	// No lock guards these: with HTTP/2, a deadline waits for the connection's goroutine, which may wait for the lock of connections.
	fixed atomic.Bool // the deadline is for all that follows
	cut   atomic.Bool // the deadline has passed: the client is cut off
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
	if a.fixed.Load() {
		return nil
	}
	err := a.control.SetWriteDeadline(now.Add(a.stall))
	if a.cut.Load() { // just now, and this deadline may have come after that
		return a.SetWriteDeadline(now)
	}
	return err
}

// minUnread is how long a client has not read before it may have to make room for another one. One that reads takes less for a part.
const minUnread = 100 * time.Millisecond

// unreadSince is since when the client has not read a part. It is zero if the client reads, waits for one, or is cut off already.
func (a *answer) unreadSince() time.Time {
	if began := a.writing.Load(); began != nil && !a.cut.Load() && time.Since(*began) >= minUnread {
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
	a.fixed.Store(true)
	if !deadline.After(time.Now()) {
		a.cut.Store(true)
		if a.conn != nil {
			return closeNow(a.conn)
		}
	}
	return a.control.SetWriteDeadline(deadline)
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// finish writes what net/http has buffered. For HTTP/2 it waits until the client takes it: net/http would wait after the handler has
// returned, when nobody counts the answer any more.
func (a *answer) finish() {
	defer a.writing.Store(nil)
	if a.extend() == nil && a.conn != nil {
		_ = a.control.Flush() // it fails only if the client has gone
	}
}

// answers has a handler write to an answer.
func answers(h http.Handler, stall time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a := &answer{ResponseWriter: w, control: http.NewResponseController(w), stall: stall}
		h.ServeHTTP(a, r)
		_ = a.extend() // net/http may still have something to write
	})
}

// withoutBody has a handler answer requests that have no body: net/http reads the body before it writes the answer, and a scrape with a slow
// body would hold its slot for long.
func withoutBody(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			w.(*answer).refuseBody(r)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// bodyTimeout is how long the server reads the body of a request that it refuses.
const bodyTimeout = time.Second

func (a *answer) refuseBody(r *http.Request) {
	a.Header().Set("Connection", "close")
	_ = a.control.SetReadDeadline(time.Now().Add(bodyTimeout)) // it fails only if the connection is closed
	status := http.StatusRequestEntityTooLarge
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		a.Header().Set("Allow", "GET, HEAD")
		status = http.StatusMethodNotAllowed
	}
	http.Error(a, "expected a request without a body", status)
}

// answerPatience is how long a request waits until others have been answered.
const answerPatience = time.Second

// bounded lets a handler give so many answers at a time. Further requests wait, and cut off the clients that have left a part of an answer
// unread for longest. After answerPatience they are refused.
func bounded(h http.Handler, most int64) http.Handler {
	slots := semaphore.NewWeighted(most)
	var mu sync.Mutex
	given := map[*answer]bool{}
	begin := func(ctx context.Context, a *answer) bool {
		for end := time.Now().Add(answerPatience); !slots.TryAcquire(1); {
			mu.Lock()
			if longest, since := earliest(maps.Keys(given), (*answer).unreadSince); !since.IsZero() {
				_ = longest.SetWriteDeadline(time.Now()) // it fails only if the connection is closed
			}
			mu.Unlock()
			waiting, cancel := context.WithTimeout(ctx, minUnread)
			err := slots.Acquire(waiting, 1)
			cancel()
			if err == nil {
				break
			}
			if ctx.Err() != nil || time.Now().After(end) {
				return false
			}
		}
		mu.Lock()
		defer mu.Unlock()
		given[a] = true
		return true
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a := w.(*answer)
		if !begin(r.Context(), a) {
			w.Header().Set("Retry-After", "1")
			http.Error(w, fmt.Sprintf("%d clients wait for an answer, try again later", most), http.StatusServiceUnavailable)
			return
		}
		defer func() {
			mu.Lock()
			defer mu.Unlock()
			delete(given, a)
			slots.Release(1)
		}()
		h.ServeHTTP(w, r)
	})
}

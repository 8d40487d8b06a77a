package app

import (
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/term"

	"promflow/capture"
)

// meter counts the bytes that are read through it.
type meter struct {
	io.Reader
	read atomic.Int64
}

func (m *meter) Read(b []byte) (int, error) {
	n, err := m.Reader.Read(b)
	m.read.Add(int64(n))
	return n, err
}

// progressEvery is the time between two looks at how far a replay has got. One that takes less shows nothing.
const progressEvery = 500 * time.Millisecond

// showProgress writes a line about how far in has been read, of size bytes if that is known, over itself until the returned
// function is called, which removes it. It does nothing where nobody watches.
func showProgress(w *os.File, name string, in *meter, size int64, counter *capture.Counter) (stop func()) {
	if !term.IsTerminal(int(w.Fd())) {
		return func() {}
	}
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		begin, shown := time.Now(), false
		ticker := time.NewTicker(progressEvery)
		defer ticker.Stop()
		for {
			select {
			case <-quit:
				if shown {
					fmt.Fprint(w, eraseLine)
				}
				return
			case <-ticker.C:
				var packets int64
				for _, o := range counter.Outcomes() {
					packets += o.Packets
				}
				line := progress(name, packets, in.read.Load(), size, time.Since(begin))
				if width, _, err := term.GetSize(int(w.Fd())); err == nil && width > 0 {
					line = line[:min(len(line), width-1)] // what wraps is not erased
				}
				fmt.Fprint(w, eraseLine, line)
				shown = true
			}
		}
	}()
	return func() { close(quit); <-done }
}

const eraseLine = "\r\x1b[K" // ECMA-48: carriage return, erase in line

// progress says how far a file of size bytes, 0 if unknown, has been read.
func progress(name string, packets, read, size int64, took time.Duration) string {
	rate := float64(packets) / took.Seconds()
	if size == 0 || read == 0 {
		return fmt.Sprintf("%s: %d packets, %.0f packets/s", name, packets, rate)
	}
	share := min(float64(read)/float64(size), 1)
	left := time.Duration(float64(took) * (1 - share) / share).Round(time.Second)
	return fmt.Sprintf("%s: %.0f %%, %d packets, %.0f packets/s, %v left", name, 100*share, packets, rate, left)
}

package app

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"

	"promflow/capture"
)

// progressEvery is the time between two updates of a replay's progress. A replay that takes less shows none.
const progressEvery = 500 * time.Millisecond

// eraseLine is a carriage return and "erase in line" (ECMA-48).
const eraseLine = "\r\x1b[K"

// showProgress shows on a terminal how much of a file of size bytes, 0 if unknown, has been counted. The returned function ends that, and
// erases the line.
func showProgress(w *os.File, name string, in io.Seeker, size int64, counter *capture.Counter) (stop func()) {
	if !term.IsTerminal(int(w.Fd())) {
		return func() {}
	}
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		begin, shown := time.Now(), false
		tick := time.Tick(progressEvery)
		for {
			select {
			case <-quit:
				if shown {
					fmt.Fprint(w, eraseLine)
				}
				return
			case <-tick:
				var packets int64
				for _, o := range counter.Outcomes() {
					packets += o.Packets
				}
				read, _ := in.Seek(0, io.SeekCurrent) // a pipe has no position, and no size either
				line := progress(name, packets, read, size, time.Since(begin))
				if width, _, err := term.GetSize(int(w.Fd())); err == nil && width > 0 {
					line = line[:min(len(line), width-1)] // a line that wraps would not be erased
				}
				fmt.Fprint(w, eraseLine, line)
				shown = true
			}
		}
	}()
	return func() { close(quit); <-done }
}

// progress describes how much of a file of size bytes, 0 if unknown, has been read.
func progress(name string, packets, read, size int64, took time.Duration) string {
	rate := float64(packets) / took.Seconds()
	if size == 0 || read == 0 {
		return fmt.Sprintf("%s: %d packets, %.0f packets/s", name, packets, rate)
	}
	share := min(float64(read)/float64(size), 1)
	left := time.Duration(float64(took) * (1 - share) / share).Round(time.Second)
	return fmt.Sprintf("%s: %.0f %%, %d packets, %.0f packets/s, %v left", name, 100*share, packets, rate, left)
}

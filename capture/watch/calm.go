package watch

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// An interface that flaps may log so much. What comes beyond is kept back for a while: then the last line of it appears, which says
// how many there were before it.
const (
	logBurst = 20
	logEvery = 10 * time.Second
)

// calm is a handler of one interface's messages.
type calm struct {
	slog.Handler
	limit *rate.Limiter
	kept  *kept
}

// kept is what is kept back.
type kept struct {
	mu    sync.Mutex
	lines int
	last  slog.Record
}

func newCalm(log *slog.Logger) *slog.Logger {
	return slog.New(calm{log.Handler(), rate.NewLimiter(rate.Every(logEvery), logBurst), new(kept)})
}

func (c calm) Handle(ctx context.Context, r slog.Record) error {
	c.kept.mu.Lock()
	defer c.kept.mu.Unlock()
	if c.kept.lines == 0 {
		if c.limit.AllowN(r.Time, 1) {
			return c.Handler.Handle(ctx, r)
		}
		time.AfterFunc(logEvery, c.say)
	}
	c.kept.lines++
	c.kept.last = r.Clone()
	return nil
}

// say logs the last line that was kept back.
func (c calm) say() {
	c.kept.mu.Lock()
	defer c.kept.mu.Unlock()
	c.kept.last.Add("unsaid", c.kept.lines-1)
	c.kept.lines = 0
	c.Handler.Handle(context.Background(), c.kept.last) // an error would be nobody's, as with slog
}

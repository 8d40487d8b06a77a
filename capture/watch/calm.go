package watch

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// The log of an interface that flaps is limited. Further lines are held back for a while: then the last of them is logged, with the number
// of the others.
const (
	logBurst = 20
	logEvery = 10 * time.Second
)

// calm is the log handler of one interface.
type calm struct {
	slog.Handler
	limit *rate.Limiter
	kept  *kept
}

// kept is the lines that are held back.
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

// say logs the last line that was held back.
func (c calm) say() {
	c.kept.mu.Lock()
	defer c.kept.mu.Unlock()
	c.kept.last.Add("unsaid", c.kept.lines-1)
	c.kept.lines = 0
	c.Handler.Handle(context.Background(), c.kept.last) // errors are dropped, as slog does
}

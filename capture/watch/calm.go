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

	mu    sync.Mutex
	lines int // that are held back
	last  slog.Record
}

func newCalm(log *slog.Logger) *slog.Logger {
	return slog.New(&calm{Handler: log.Handler(), limit: rate.NewLimiter(rate.Every(logEvery), logBurst)})
}

func (c *calm) Handle(ctx context.Context, r slog.Record) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lines == 0 {
		if c.limit.AllowN(r.Time, 1) {
			return c.Handler.Handle(ctx, r)
		}
		time.AfterFunc(logEvery, c.say)
	}
	c.lines++
	c.last = r.Clone()
	return nil
}

// say logs the last line that was held back.
func (c *calm) say() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last.Add("unsaid", c.lines-1)
	c.lines = 0
	c.Handler.Handle(context.Background(), c.last) // errors are dropped, as slog does
}

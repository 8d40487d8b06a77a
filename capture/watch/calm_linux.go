package watch

import (
	"context"
	"log/slog"
	"time"

	"golang.org/x/time/rate"
)

// An interface that flaps may log so much, and says then how many lines it has left out.
const (
	logBurst = 20
	logEvery = 10 * time.Second
)

// calm is a handler of one interface's messages.
type calm struct {
	slog.Handler
	limit  *rate.Limiter
	unsaid *int // the caller's lock is theirs
}

func newCalm(log *slog.Logger) *slog.Logger {
	return slog.New(calm{log.Handler(), rate.NewLimiter(rate.Every(logEvery), logBurst), new(int)})
}

func (c calm) Handle(ctx context.Context, r slog.Record) error {
	if !c.limit.AllowN(r.Time, 1) {
		*c.unsaid++
		return nil
	}
	if *c.unsaid > 0 {
		r.Add("unsaid", *c.unsaid)
		*c.unsaid = 0
	}
	return c.Handler.Handle(ctx, r)
}

package check

import (
	"context"
	"log/slog"
	"strings"
	"sync"
)

// Log keeps the warnings that the program logs, as lines.
type Log struct {
	mu    sync.Mutex
	lines []string
}

// Logger logs to l.
func (l *Log) Logger() *slog.Logger { return slog.New(&keeper{log: l}) }

// Take gives the warnings so far, and forgets them.
func (l *Log) Take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := l.lines
	l.lines = nil
	return lines
}

// keeper is a handler that keeps warnings and errors.
type keeper struct {
	log        *Log
	attributes []string
}

func (k *keeper) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }

func (k *keeper) Handle(_ context.Context, r slog.Record) error {
	parts := append([]string(nil), k.attributes...)
	r.Attrs(func(a slog.Attr) bool { parts = append(parts, describe(a)); return true })
	line := r.Message
	if len(parts) > 0 {
		line += ": " + strings.Join(parts, ", ")
	}
	k.log.mu.Lock()
	defer k.log.mu.Unlock()
	k.log.lines = append(k.log.lines, line)
	return nil
}

func (k *keeper) WithAttrs(all []slog.Attr) slog.Handler {
	more := &keeper{log: k.log, attributes: append([]string(nil), k.attributes...)}
	for _, a := range all {
		more.attributes = append(more.attributes, describe(a))
	}
	return more
}

func (k *keeper) WithGroup(string) slog.Handler { return k }

// describe shows an attribute. What is a reason needs no name.
func describe(a slog.Attr) string {
	if a.Key == "reason" || a.Key == "error" || a.Key == "err" {
		return a.Value.String()
	}
	return a.Key + " " + a.Value.String()
}

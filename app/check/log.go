package check

import (
	"context"
	"log/slog"
	"slices"
	"sync"
)

// Log keeps warnings and errors that are logged, each as a line.
type Log struct {
	mu    sync.Mutex
	lines []string
}

// Logger returns a logger that logs to l.
func (l *Log) Logger() *slog.Logger { return slog.New(&keeper{log: l}) }

// Take returns the lines since the last call.
func (l *Log) Take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := l.lines
	l.lines = nil
	return lines
}

// keeper is the handler of a Log.
type keeper struct {
	log        *Log
	attributes []slog.Attr
}

func (k *keeper) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }

func (k *keeper) Handle(_ context.Context, r slog.Record) error {
	line, separator := r.Message, ": "
	add := func(a slog.Attr) bool {
		line += separator
		separator = ", "
		if a.Key != "reason" && a.Key != "error" && a.Key != "err" { // reasons need no name
			line += a.Key + " "
		}
		line += a.Value.String()
		return true
	}
	for _, a := range k.attributes {
		add(a)
	}
	r.Attrs(add)
	k.log.mu.Lock()
	defer k.log.mu.Unlock()
	k.log.lines = append(k.log.lines, line)
	return nil
}

func (k *keeper) WithAttrs(more []slog.Attr) slog.Handler {
	return &keeper{k.log, slices.Concat(k.attributes, more)}
}

func (k *keeper) WithGroup(string) slog.Handler { return k }

package watch

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// output is what was written since it was last taken.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) take() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	defer o.text.Reset()
	return o.text.String()
}

func TestCalm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out output
		log := newCalm(slog.New(slog.NewTextHandler(&out, nil)))
		lines := func() []string {
			synctest.Wait()
			return strings.Split(strings.TrimSuffix(out.take(), "\n"), "\n")
		}
		for i := range 1000 {
			log.Info(fmt.Sprintf("change %d", i))
		}
		if got := lines(); len(got) != logBurst || !strings.Contains(got[logBurst-1], fmt.Sprintf("change %d", logBurst-1)) {
			t.Errorf("said at once: %q", got)
		}
		// How it ended is said, even if nothing more happens.
		time.Sleep(logEvery)
		if got := lines(); len(got) != 1 || !strings.Contains(got[0], "change 999") || !strings.Contains(got[0], fmt.Sprintf("unsaid=%d", 1000-logBurst-1)) {
			t.Errorf("said later: %q", got)
		}
		time.Sleep(logEvery)
		log.Info("one more")
		if got := lines(); len(got) != 1 || strings.Contains(got[0], "unsaid") {
			t.Errorf("said of one more: %q", got)
		}
	})
}

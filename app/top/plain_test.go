package top

import (
	"context"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"promflow/telemetry/talkers"
)

// TestPrintDoesNotWaitForEver asks servers of which no report with rates comes, or no further one.
func TestPrintDoesNotWaitForEver(t *testing.T) {
	for name, report := range map[string]talkers.Report{
		"no rates": {Time: time.Unix(1, 0)},
		"one time": {Time: time.Unix(1, 0), WindowSeconds: 4},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begin := time.Now()
				err := Print(t.Context(), io.Discard, Options{Count: 2}, func(context.Context, talkers.Query) (*talkers.Report, error) {
					return &report, nil
				})
				if took := time.Since(begin); err == nil || !strings.Contains(err.Error(), "no new report") || took < maxWait || took > 2*maxWait {
					t.Errorf("got %v after %v", err, took)
				}
			})
		})
	}
}

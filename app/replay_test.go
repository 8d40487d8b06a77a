package app

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// An interrupt does not pass over files in silence.
func TestReplayNamesFilesThatAnInterruptLeftOut(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c := new(config)
	c.settings()
	file := filepath.Join(t.TempDir(), "left-out.pcap")
	if err := os.WriteFile(file, []byte("never read"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := replayFiles(ctx, c, "", []string{file})
	if err == nil || !strings.Contains(err.Error(), "left-out.pcap") {
		t.Errorf("the error is %v", err)
	}
}

func TestProgress(t *testing.T) {
	for _, c := range []struct {
		packets, read, size int64
		took                time.Duration
		want                string
	}{
		{0, 0, 1000, time.Second, "f: 0 packets, 0 packets/s"},
		{500, 250, 1000, 500 * time.Millisecond, "f: 25 %, 500 packets, 1000 packets/s, 2s left"},
		{1000, 1000, 1000, 2 * time.Second, "f: 100 %, 1000 packets, 500 packets/s, 0s left"},
		{1000, 1500, 1000, 2 * time.Second, "f: 100 %, 1000 packets, 500 packets/s, 0s left"}, // it has grown meanwhile
		{1000, 1500, 0, 2 * time.Second, "f: 1000 packets, 500 packets/s"},
		{1, 1 << 16, 10 << 40, 500 * time.Millisecond, "f: 0 %, 1 packets, 2 packets/s, 23301h41m20s left"},
	} {
		if got := progress("f", c.packets, c.read, c.size, c.took); got != c.want {
			t.Errorf("%d of %d bytes: got %q, want %q", c.read, c.size, got, c.want)
		}
	}
}

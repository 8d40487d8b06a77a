package e2e

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"promflow/app/privilege"
)

// write makes a file that goes away with the test, and that a promflow may read which has given up root.
func write(t testing.TB, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	hand(t, path)
	return path
}

// hand gives files of a test's folders to the user that promflow becomes, if this is root.
func hand(t testing.TB, files ...string) {
	t.Helper()
	if os.Geteuid() != 0 {
		return
	}
	user, err := privilege.ParseUser(privilege.DefaultUser)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		dir := filepath.Dir(file)
		if err := errors.Join(os.Chown(file, user.UID, user.GID), os.Chmod(dir, 0o755), os.Chmod(filepath.Dir(dir), 0o755)); err != nil {
			t.Fatal(err)
		}
	}
}

// lineWaiter is a program's output in which something is waited for.
type lineWaiter struct {
	mu    sync.Mutex
	text  bytes.Buffer
	want  string
	found chan struct{}
	once  sync.Once
}

func newLineWaiter(want string) *lineWaiter {
	return &lineWaiter{want: want, found: make(chan struct{})}
}

func (w *lineWaiter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text.Write(p)
	if bytes.Contains(w.text.Bytes(), []byte(w.want)) {
		w.once.Do(func() { close(w.found) })
	}
	return len(p), nil
}

func (w *lineWaiter) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

func (w *lineWaiter) wait(t *testing.T) {
	t.Helper()
	select {
	case <-w.found:
	case <-time.After(deadline):
		t.Fatalf("waited in vain for %q in: %s", w.want, w)
	}
}

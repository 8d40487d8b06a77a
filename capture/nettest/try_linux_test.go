package nettest

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"testing"
)

func TestTry(t *testing.T) {
	first, second := errors.New("first"), errors.New("second")
	for _, c := range []struct {
		name string
		f    func(TB)
		want []error
	}{
		{"nothing fails", func(TB) {}, nil},
		{"it fails", func(t TB) { Check(t, first); t.Fatal(second) }, []error{first}},
		{"it and a cleanup fail", func(t TB) { t.Cleanup(func() { t.Fatal(second) }); t.Fatal(first) }, []error{first, second}},
		{"what it calls in a namespace fails", func(t TB) { NewNamespace(t).Do(func() error { t.Fatal(first); return nil }); t.Fatal(second) }, []error{first}},
		{"one within fails by what is outside", func(t TB) { Try(t.Context(), func(TB) { t.Fatal(first) }); Check(t, t.Context().Err()) }, []error{first}},
		{"it is canceled", func(t TB) {
			var err error
			Check(t, Try(t.Context(), func(within TB) {
				ctx, cancel := context.WithCancel(within.Context())
				cancel()
				err = Try(ctx, func(t TB) { <-t.Context().Done() })
			}))
			t.Fatal(err)
		}, []error{context.Canceled}},
	} {
		t.Run(c.name, func(t *testing.T) {
			NeedRoot(t)
			var ended []int
			dir := ""
			err := Try(t.Context(), func(t TB) {
				dir = t.TempDir()
				t.Cleanup(func() { ended = append(ended, 2) })
				t.Cleanup(func() { ended = append(ended, 1); Check(t, t.Context().Err()) })
				c.f(t)
			})
			for _, e := range []error{first, second, context.Canceled} {
				if errors.Is(err, e) != slices.Contains(c.want, e) {
					t.Errorf("the error is %v, want %v", err, c.want)
				}
			}
			if !slices.Equal(ended, []int{1, 2}) {
				t.Errorf("cleanups ran in the order %v", ended)
			}
			if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the folder is still there (%v)", err)
			}
		})
	}
}

func TestNamespaceEnds(t *testing.T) {
	NeedRoot(t)
	var n *Namespace
	Check(t, Try(t.Context(), func(t TB) { n = NewNamespace(t) }))
	if _, err := os.Lstat(n.path()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("its name is still there (%v)", err)
	}
}

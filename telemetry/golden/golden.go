// Package golden compares what is printed or scraped with files in the testdata of a test's package. go test -update rewrites them.
package golden

import (
	"flag"
	"os"
	"path/filepath"
	"testing"
)

// Update says that golden files, and pictures of the page, are to be made anew.
var Update = flag.Bool("update", false, "rewrite the golden files")

// Compare fails the test if got is not what the file of that name has.
func Compare(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *Update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got\n%s\nwant, as in %s (go test -update rewrites it),\n%s", got, file, want)
	}
}

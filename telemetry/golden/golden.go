// Package golden compares what is printed or scraped with files in the testdata of a test's package. go test -update rewrites them.
package golden

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
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

// Section fails the test if what a file has between the lines <!-- NAME: ... --> and <!-- end of NAME --> is not what is wanted.
func Section(t *testing.T, file, name, want string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, begun := strings.Cut(string(b), "<!-- "+name+": ")
	comment, rest, closed := strings.Cut(rest, " -->\n")
	got, tail, ended := strings.Cut(rest, "<!-- end of "+name+" -->")
	if !begun || !closed || !ended {
		t.Fatalf("%s has no section %s", file, name)
	}
	want = "\n" + want + "\n"
	if *Update {
		text := head + "<!-- " + name + ": " + comment + " -->\n" + want + "<!-- end of " + name + " -->" + tail
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got != want {
		t.Errorf("the %s in %s are not those of the code: %s rewrites them. Have\n%s\nwant\n%s", name, file, comment, got, want)
	}
}

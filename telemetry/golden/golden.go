// Package golden compares output with files in the testdata of a test's package. go test -update rewrites them.
package golden

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// Update is true if the test rewrites golden files and pictures of the live page.
var Update = flag.Bool("update", false, "rewrite the golden files")

// Compare fails the test if got differs from the file with this name.
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

// Section fails the test if the text of a file between the lines <!-- NAME: COMMAND --> and <!-- end of NAME --> is not want.
func Section(t *testing.T, file, name, want string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	section := regexp.MustCompile(`(?s)<!-- ` + name + `: (.*?) -->\n(.*?)<!-- end of ` + name + ` -->`)
	text := string(b)
	at := section.FindStringSubmatchIndex(text)
	if at == nil {
		t.Fatalf("%s has no section %s", file, name)
	}
	command, begin, end := text[at[2]:at[3]], at[4], at[5]
	want = "\n" + want + "\n"
	switch got := text[begin:end]; {
	case *Update:
		if err := os.WriteFile(file, []byte(text[:begin]+want+text[end:]), 0o644); err != nil {
			t.Fatal(err)
		}
	case got != want:
		t.Errorf("the %s in %s differ from the code: %s rewrites them. Got\n%s\nwant\n%s", name, file, command, got, want)
	}
}

package e2e

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	codeBlocks = regexp.MustCompile("(?ms)^```.*?^```")
	headings   = regexp.MustCompile(`(?m)^#+ (.*)$`)
	links      = regexp.MustCompile(`\]\(([^)]+)\)`)
	notInLinks = regexp.MustCompile(`[^\w\- ]`)
)

// TestLinks has each link within the repository's documents lead somewhere, to a heading, too.
func TestLinks(t *testing.T) {
	read := func(path string) string {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Error(err)
		}
		return codeBlocks.ReplaceAllString(string(text), "")
	}
	found := 0
	check := func(in, link string) {
		found++
		path, heading, _ := strings.Cut(link, "#")
		to := in
		if path != "" {
			to = filepath.Join(filepath.Dir(in), path)
		}
		info, err := os.Stat(to)
		switch {
		case err != nil:
			t.Errorf("%s: %q: %v", in, link, err)
			return
		case heading == "":
			return
		case info.IsDir():
			to = filepath.Join(to, "README.md")
		}
		if !slices.ContainsFunc(headings.FindAllStringSubmatch(read(to), -1), func(h []string) bool {
			return strings.ReplaceAll(notInLinks.ReplaceAllString(strings.ToLower(h[1]), ""), " ", "-") == heading
		}) {
			t.Errorf("%s: %q: there is no such heading", in, link)
		}
	}
	err := filepath.WalkDir("../..", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".md" {
			return err
		}
		for _, link := range links.FindAllStringSubmatch(read(path), -1) {
			if !strings.Contains(link[1], "://") {
				check(path, link[1])
			}
		}
		return nil
	})
	if err != nil || found == 0 {
		t.Errorf("%d links: %v", found, err)
	}
}

package watch

import (
	"runtime"
	"slices"
	"strings"
	"testing"
)

func TestParseNames(t *testing.T) {
	for _, c := range []struct{ list, want string }{
		{"eth0", "eth0"},
		{" eth0 ,wlan0, eth0", "eth0,wlan0"},
		{"ppp*,eth0,wg[0-9]", "eth0,ppp*,wg[0-9]"},
		{`odd\*`, `odd\*`},
		{"fifteen-bytes-x", "fifteen-bytes-x"},
		{"eth0.100@x", "eth0.100@x"},
		{"büro", "büro"},
	} {
		got, err := ParseNames(c.list)
		if err != nil || got.String() != c.want {
			t.Errorf("%q is %q (%v), want %q", c.list, got, err, c.want)
		}
		again, err := ParseNames(got.String())
		if err != nil || !slices.Equal(again.Exact, got.Exact) || !slices.Equal(again.Globs, got.Globs) {
			t.Errorf("%q is read as %+v (%v), which was %+v", got, again, err, got)
		}
	}
	for list, quoted := range map[string]string{
		"": "names", "eth0,": "names", ",": "names", strings.Repeat("x", 128): "127 characters", "eth0:1": `"eth0:1"`, "a/b": `"a/b"`,
		"a b": `"a b"`, "..": `".."`, "eth[0": `"eth[0"`, `ppp\`: `"ppp\\"`, "eth0,wg[": `"wg["`,
	} {
		if runtime.GOOS == "windows" && (list == "a b" || len(list) == 128) { // which has such names
			continue
		}
		if got, err := ParseNames(list); err == nil || !strings.Contains(err.Error(), quoted) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q is %+v (%v), want an error about %s", list, got, err, quoted)
		}
	}
}

func TestNamesMatch(t *testing.T) {
	names, err := ParseNames(`eth0,ppp*,wg[0-2],odd\*`)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{
		"eth0": true, "eth01": false, "ppp": true, "ppp0": true, "xppp0": false, "wg2": true, "wg3": false, "odd*": true, "odd1": false, "": false,
	} {
		if got := names.Match(name); got != want {
			t.Errorf("%q matches: %v, want %v", name, got, want)
		}
	}
}

package app

import (
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

func TestComplete(t *testing.T) {
	app := &cli.App{
		Flags: settings{
			{name: "packets"},
			{name: "capture", holder: "BACKEND", choices: []string{"auto", "afpacket", "ebpf"}},
			{name: "count", holder: "N"},
		}.flags(),
		Commands: []*cli.Command{
			{Name: "replay", Flags: settings{{name: "packets"}, {name: "labels", holder: "LIST", choices: []string{"peer", "vlan"}}}.flags()},
			{Name: "completion"},
		},
	}
	for _, c := range []struct{ words, want string }{
		{"", "replay completion"},
		{"re", "replay"},
		{"-", "--capture --count --packets"},
		{"--c", "--capture --count"},
		{"-c", "-capture -count"},
		{"--x", ""},
		{"--capture ", "auto afpacket ebpf"},
		{"--capture a", "auto afpacket"},
		{"-capture a", "auto afpacket"},
		{"--capture=", "--capture=auto --capture=afpacket --capture=ebpf"},
		{"-capture=e", "-capture=ebpf"},
		{"--capture =", "auto afpacket ebpf"}, // as bash has it
		{"--capture = e", "ebpf"},
		{"--capture = ebpf ", "replay completion"},
		{"--capture = ebpf --c", "--capture --count"},
		{"--count ", ""},
		{"--count=", ""},
		{"--count re", ""}, // a value, not a command
		{"--count 5 re", "replay"},
		{"--count=5 re", "replay"},
		{"--packets re", "replay"},
		{"--packets=", ""},
		{"--packets = ", ""},
		{"--packets = true re", "replay"},
		{"--unknown re", "replay"},
		{"replay ", ""},
		{"replay -", "--labels --packets"},
		{"replay --labels ", "peer vlan"},
		{"--capture ebpf replay --labels v", "vlan"},
		{"replay completion ", ""}, // a file of that name
		{"completion ", "bash zsh fish"},
		{"completion z", "zsh"},
	} {
		var got []string
		for _, line := range candidates(app, strings.Split(c.words, " ")) {
			word, _, _ := strings.Cut(line, "\t")
			got = append(got, word)
		}
		if want := strings.Fields(c.want); !slices.Equal(got, want) {
			t.Errorf("%q becomes %q, want %q", c.words, got, want)
		}
	}
	if got := candidates(app, nil); len(got) != 2 {
		t.Errorf("nothing becomes %v", got)
	}
}

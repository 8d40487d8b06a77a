package completion

import (
	"slices"
	"strings"
	"testing"
)

var commands = []Command{
	{Flags: []Flag{
		{Name: "capture", Value: true, Values: []string{"auto", "afpacket", "ebpf"}},
		{Name: "count", Value: true},
		{Name: "packets"},
	}},
	{Name: "replay", Flags: []Flag{{Name: "packets"}, {Name: "labels", Value: true, Values: []string{"peer", "vlan"}}}},
	{Name: "completion", Args: []string{"bash", "zsh", "fish"}},
}

func TestComplete(t *testing.T) {
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
		{"replay -", "--packets --labels"},
		{"replay --labels ", "peer vlan"},
		{"--capture ebpf replay --labels v", "vlan"},
		{"replay completion ", ""}, // a file of that name
		{"completion ", "bash zsh fish"},
		{"completion z", "zsh"},
	} {
		var got []string
		for _, candidate := range Complete(commands, strings.Split(c.words, " ")) {
			got = append(got, candidate.Word)
		}
		if want := strings.Fields(c.want); !slices.Equal(got, want) {
			t.Errorf("%q becomes %q, want %q", c.words, got, want)
		}
	}
	if got := Complete(commands, nil); len(got) != 2 {
		t.Errorf("nothing becomes %v", got)
	}
}

package kernel

import (
	"strings"
	"testing"
	"testing/fstest"

	"golang.org/x/sys/unix"
)

func TestReleaseBefore(t *testing.T) {
	for release, before := range map[string]map[[2]int]bool{
		"5.10.0-32-amd64":               {{5, 11}: true, {5, 19}: true, {5, 10}: false, {4, 20}: false},
		"5.11.0":                        {{5, 11}: false, {5, 19}: true},
		"5.19.0-50-generic":             {{5, 19}: false},
		"5.9.16-200.fc33.x86_64":        {{5, 11}: true},
		"6.1.0-50-cloud-amd64":          {{5, 19}: false, {6, 9}: true},
		"6.12.117+deb13-amd64":          {{5, 19}: false, {6, 9}: false},
		"4.19":                          {{5, 11}: true},
		"10.0-rc1":                      {{5, 19}: false},
		"6.18.44-fc-v669":               {{5, 19}: false},
		"5.15.153.1-microsoft-standard": {{5, 11}: false, {5, 19}: true},
		"":                              {{5, 19}: true},
		"mine":                          {{5, 19}: true},
	} {
		for version, want := range before {
			if got := releaseBefore(release, version[0], version[1]); got != want {
				t.Errorf("%q is before %v: %v, want %v", release, version, got, want)
			}
		}
	}
	if Before(3, 0) || !Before(1000, 0) {
		t.Error("this kernel is before 3.0, or not before 1000.0")
	}
}

func TestMemoryLimit(t *testing.T) {
	groups := fstest.MapFS{}
	for name, limit := range map[string]string{
		"system.slice": "2147483648", "system.slice/promflow.service": "536870912", "system.slice/loose.service": "max", "user.slice": "max",
		"user.slice/user-0.slice": "max", "small/large": "8589934592", "small": "65536", "odd": "?",
	} {
		groups[name+"/memory.max"] = &fstest.MapFile{Data: []byte(limit + "\n")}
	}
	limited := fstest.MapFS{"memory.max": &fstest.MapFile{Data: []byte("268435456\n")}}
	for _, c := range []struct {
		groups fstest.MapFS
		own    string
		want   string
	}{
		{groups, "0::/system.slice/promflow.service\n", "512 MiB"},
		{groups, "0::/system.slice/loose.service\n", "2048 MiB"},
		{groups, "0::/user.slice/user-0.slice/session-1.scope\n", ""},
		{groups, "0::/small/large\n", "64 KiB"},
		{groups, "0::/odd\n", ""},
		{groups, "0::/\n", ""},
		{groups, "4:memory:/system.slice\n0::/user.slice\n", ""}, // cgroups of version 1
		{limited, "0::/\n", "256 MiB"},                           // in a container
		{limited, "0::/../other\n", "256 MiB"},
		{limited, "", ""},
	} {
		got := ""
		if limit, ok := memoryLimit(c.groups, c.own); ok {
			got = size(limit)
		}
		if got != c.want {
			t.Errorf("%q: the limit is %q, want %q", c.own, got, c.want)
		}
	}
}

// TestLockedMemoryIsBlamed checks what the error tells a process that may not lock enough memory.
func TestLockedMemoryIsBlamed(t *testing.T) {
	err := lockedTooLittle(64<<10, unix.EPERM).Error()
	for _, part := range []string{"64 KiB", "ulimit -l unlimited", "LimitMEMLOCK=infinity", "cap_sys_resource", "before 5.11"} {
		if !strings.Contains(err, part) {
			t.Errorf("%q does not say %s", err, part)
		}
	}
}

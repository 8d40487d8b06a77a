package watch

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// Names is the interfaces that are asked for, by name or by glob.
type Names struct {
	Exact []string
	Globs []string // in the notation of path.Match
}

// ParseNames reads names and globs, separated by commas. Space around them and repetitions are ignored. The error quotes the entry that is
// wrong.
func ParseNames(list string) (Names, error) {
	var n Names
	for name := range strings.SplitSeq(list, ",") {
		name = strings.TrimSpace(name)
		to := &n.Exact
		if strings.ContainsAny(name, `*?[\`) {
			to = &n.Globs
		}
		_, err := path.Match(name, "")
		switch {
		case name == "":
			return Names{}, errors.New("expected names of network interfaces such as eth0, or globs such as ppp*")
		case err != nil:
			return Names{}, fmt.Errorf("%q is not a glob such as ppp* or eth[0-3]", name)
		case to == &n.Exact && (len(name) > nameLen || name == "." || name == ".." || strings.ContainsAny(name, notInNames)):
			return Names{}, fmt.Errorf("%q cannot be a network interface: names have up to %d characters, no %s", name, nameLen, notInNamesText)
		}
		if !slices.Contains(*to, name) {
			*to = append(*to, name)
		}
	}
	return n, nil
}

// Match tells whether an interface of that name is asked for.
func (n Names) Match(name string) bool {
	return slices.Contains(n.Exact, name) || slices.ContainsFunc(n.Globs, func(glob string) bool {
		matches, err := path.Match(glob, name)
		return err == nil && matches
	})
}

// asks tells whether a device is asked for, by its name or by an alternative one.
func (n Names) asks(d device) bool {
	return n.Match(d.Name) || slices.ContainsFunc(d.altNames, n.Match)
}

// Exists tells whether this machine has an interface that is asked for. It has none if they cannot be listed.
func (n Names) Exists() bool {
	all, _ := devices()
	return slices.ContainsFunc(slices.Collect(maps.Values(all)), n.asks)
}

// Real returns the names with the real ones in place of the alternative ones of interfaces that exist.
func (n Names) Real() Names {
	all, _ := devices() // none are known if they cannot be listed
	real := Names{Globs: n.Globs}
	for _, name := range n.Exact {
		for _, d := range all {
			if slices.Contains(d.altNames, name) {
				name = d.Name
				break
			}
		}
		if !slices.Contains(real.Exact, name) {
			real.Exact = append(real.Exact, name)
		}
	}
	return real
}

// devices returns the devices of this machine, by index.
func devices() (map[int]device, error) {
	s, err := subscribe()
	if err != nil {
		return nil, err
	}
	defer s.close()
	return s.list()
}

func (n Names) String() string { return strings.Join(slices.Concat(n.Exact, n.Globs), ",") }

package live

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"promflow/app/privilege"
	"promflow/capture"
)

// Automatic stands for the first backend that works.
const Automatic = "auto"

// Backends returns the names of this system's backends, in the order in which Automatic tries them.
func Backends() []string {
	var names []string
	for _, b := range backends {
		names = append(names, b.Name)
	}
	return names
}

// OnRequest returns the names of this system's further backends, which Automatic never takes.
func OnRequest() (names []string) {
	for _, b := range onRequest {
		names = append(names, b.Name)
	}
	return names
}

// openCapture opens the named backend, or with Automatic the first that works, for a number of interfaces. It returns the backend's name.
// If one works, it logs why those before it do not; else it returns the reasons of all.
func openCapture(name string, c capture.Config, interfaces int) (capture.Capture, string, error) {
	if err := privilege.Raise(); err != nil {
		return nil, "", err
	}
	candidates := backends
	if name != Automatic {
		candidates = slices.DeleteFunc(slices.Concat(backends, onRequest), func(b capture.Backend) bool { return b.Name != name })
	}
	var reasons []error
	for _, b := range candidates {
		opened, err := b.Open(c, interfaces)
		if err == nil {
			for _, r := range reasons {
				c.Log.Warn("capture backend cannot be used", "reason", r)
			}
			return opened, b.Name, nil
		}
		reasons = append(reasons, fmt.Errorf("--capture=%s: %w", b.Name, explain(b, err)))
	}
	return nil, "", errors.Join(reasons...)
}

// explain adds to a missing capability how to grant it.
func explain(b capture.Backend, err error) error {
	var missing *capture.MissingCapabilityError
	if !errors.As(err, &missing) {
		return err
	}
	program, pathErr := os.Executable()
	if pathErr != nil {
		program = os.Args[0]
	}
	if strings.ContainsAny(program, " \t'\"\\$`&;()<>|*?[]#~") { // special to a shell
		program = "'" + strings.ReplaceAll(program, "'", `'\''`) + "'"
	}
	// setcap removes the capabilities that it does not name.
	needed := b.Capabilities
	if !strings.Contains(needed, missing.Capability) {
		needed += "," + missing.Capability
	}
	return fmt.Errorf("%w: run promflow as root (in a container with %s), or once: sudo setcap %s+ep %s",
		err, strings.ReplaceAll(strings.ToUpper(needed), ",", " and "), needed, program)
}

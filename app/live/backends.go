package live

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"promflow/app/privilege"
	"promflow/capture"
)

// Automatic is the name that stands for the first backend that works.
const Automatic = "auto"

// Backends names the backends of this system, in the order in which Automatic tries them.
func Backends() []string {
	var names []string
	for _, b := range backends {
		names = append(names, b.Name)
	}
	return names
}

// openCapture opens the backend of that name, or the first that works, for so many interfaces, and gives its name. What did not
// work, and why, is logged where another did, and returned where none did.
func openCapture(name string, c capture.Config, interfaces int) (capture.Capture, string, error) {
	if err := privilege.Raise(); err != nil {
		return nil, "", err
	}
	var refused []error
	for _, b := range backends {
		if name != Automatic && name != b.Name {
			continue
		}
		opened, err := b.Open(c, interfaces)
		if err == nil {
			for _, r := range refused {
				c.Log.Warn("capture backend cannot be used", "reason", r)
			}
			return opened, b.Name, nil
		}
		refused = append(refused, fmt.Errorf("--capture=%s: %w", b.Name, explain(b, err)))
	}
	return nil, "", errors.Join(refused...)
}

// explain adds to an error of a backend what its user can do.
func explain(b capture.Backend, err error) error {
	var missing *capture.MissingCapabilityError
	if !errors.As(err, &missing) {
		return err
	}
	program, pathErr := os.Executable()
	if pathErr != nil {
		program = os.Args[0]
	}
	if strings.ContainsAny(program, " \t'\"\\$`&;()<>|*?[]#~") { // which a shell would not take as they are
		program = "'" + strings.ReplaceAll(program, "'", `'\''`) + "'"
	}
	// setcap takes away what is not named.
	needed := b.Capabilities
	if !strings.Contains(needed, missing.Capability) {
		needed += "," + missing.Capability
	}
	return fmt.Errorf("%w: run promflow as root (in a container with %s), or once: sudo setcap %s+ep %s",
		err, strings.ReplaceAll(strings.ToUpper(needed), ",", " and "), needed, program)
}

package privilege

import (
	"fmt"

	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// Raise makes the permitted capabilities of the process effective, for all its threads. A file without the effective flag (setcap
// cap_net_raw,cap_bpf=p) only permits its capabilities; in return it can be executed where some of them are not allowed.
func Raise() error {
	is := cap.GetProc()
	raised, err := is.Dup()
	if err != nil {
		return err
	}
	if err := raised.FillFlag(cap.Effective, is, cap.Permitted); err != nil {
		return err
	}
	if differs, err := raised.Cf(is); err != nil || differs == 0 {
		return err
	}
	if err := raised.SetProc(); err != nil {
		return fmt.Errorf("raising capabilities: %w", err)
	}
	return nil
}

package privilege

import (
	"fmt"

	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// Raise puts into effect what the process is permitted to do, for all its threads. The capabilities of a file without the effective
// flag (setcap cap_net_raw,cap_bpf=p) are only permitted: unlike with it, the file can also be run where some of them are ruled out.
func Raise() error {
	is, raised := cap.GetProc(), cap.NewSet()
	for _, each := range []struct{ to, from cap.Flag }{
		{cap.Permitted, cap.Permitted}, {cap.Inheritable, cap.Inheritable}, {cap.Effective, cap.Permitted},
	} {
		if err := raised.FillFlag(each.to, is, each.from); err != nil {
			return err
		}
	}
	if differs, err := raised.Cf(is); err != nil || differs == 0 {
		return err
	}
	if err := raised.SetProc(); err != nil {
		return fmt.Errorf("raising capabilities: %w", err)
	}
	return nil
}

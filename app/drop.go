package app

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strings"

	"promflow/app/privilege"
)

// dropPrivileges gives up all privileges but the capabilities in keep. It then checks that files which are read again later are readable.
func (c *config) dropPrivileges(keep []string, log *slog.Logger) error {
	wasRoot := os.Geteuid() == 0
	kept, err := privilege.Drop(c.user, c.isGiven("user"), keep)
	if err != nil {
		return fmt.Errorf("%s %v: %w", c.givenBy("user"), c.user, err)
	}
	if runtime.GOOS != "linux" {
		log.Info("privileges are kept: they are given up on Linux only", "user", os.Geteuid(), "group", os.Getegid())
		return nil
	}
	capabilities := strings.Join(kept, ",")
	if capabilities == "" {
		capabilities = "none"
	}
	log.Info("privileges", "user", os.Geteuid(), "group", os.Getegid(), "capabilities", capabilities)
	if wasRoot && c.user.Root() {
		return nil
	}
	if wasRoot && os.Geteuid() == 0 {
		log.Warn("promflow stays root without root's capabilities, as it lacks CAP_SETUID or CAP_SETGID to become another user: --user=root keeps the capabilities")
	}
	return unreadable(errors.Join(c.web().Check(), c.otlpError(c.otlp.Reread()))) // root has read these files before
}

// unreadable explains an error, if any, of reading a file with the privileges that are left.
func unreadable(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: it is read again while promflow runs, as user %d and group %d (see --user): let them read it", err, os.Geteuid(), os.Getegid())
}

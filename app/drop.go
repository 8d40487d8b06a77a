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

// dropPrivileges gives up what is not needed once everything is open, but for some capabilities. What is read again later must be
// readable then: if it is not, that is an error now.
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
		log.Warn("stays root, as it lacks CAP_SETUID or CAP_SETGID, but gave up root's capabilities: --user=root keeps them, another user needs both")
	}
	if err := errors.Join(c.web().Check(), c.otlpError(c.otlp.Reread())); err != nil { // which were right before
		return fmt.Errorf("%w: it is read again while promflow runs, as user %d and group %d (see --user): let them read it", err, os.Geteuid(), os.Getegid())
	}
	return nil
}

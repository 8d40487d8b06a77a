package app

import (
	"cmp"
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
	log.Info("privileges", "user", os.Geteuid(), "group", os.Getegid(), "capabilities", cmp.Or(strings.Join(kept, ","), "none"))
	if wasRoot && c.user.Root() {
		return nil
	}
	if wasRoot && os.Geteuid() == 0 {
		log.Warn("promflow stays root, but without root's capabilities: to become another user it needs CAP_SETUID and CAP_SETGID (see --user)")
	}
	_, _, err = c.lists().Read()
	return unreadable(errors.Join(err, c.web().Check(), c.otlpError(c.otlp.Reread()))) // root has read these files before
}

// ownSocket gives a Unix socket to the user that promflow becomes, which removes it in the end.
func (c *config) ownSocket(path string) error {
	if os.Geteuid() != 0 || c.user.Root() {
		return nil
	}
	err := os.Chown(path, c.user.UID, c.user.GID)
	if errors.Is(err, os.ErrPermission) { // then it cannot become that user either
		return nil
	}
	return err
}

// unreadable explains an error, if any, of reading a file with the privileges that are left.
func unreadable(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: it is read again while promflow runs, as user %d and group %d (see --user): let them read it",
		err, os.Geteuid(), os.Getegid())
}

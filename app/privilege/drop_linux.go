package privilege

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// Drop has the process be that user, if it is root now, and have no capability but those to keep, as far as it has them (their
// names are those of capabilities(7)); nor will any program give it more (no_new_privs). That is for all its threads, and for good.
// It returns which it has kept.
//
// With root as the user nothing changes. Who is not root stays who it is. A process that is root and may not change that, as in
// some containers, gets an error if that user was asked for, and else remains root by name, without root's capabilities.
func Drop(to User, asked bool, keep []string) (kept []string, err error) {
	now := os.Geteuid()
	switch {
	case now == 0 && to.Root():
		return permitted(), nil
	case now == 0:
		if err := become(to); err != nil && asked {
			return nil, fmt.Errorf("cannot become this user (which takes CAP_SETUID and CAP_SETGID): %w", err)
		}
	case asked && now != to.UID:
		return nil, fmt.Errorf("only root can become another user, and this is %d: %w", now, os.ErrPermission)
	case asked && to.grouped && os.Getegid() != to.GID:
		return nil, fmt.Errorf("only root can change its group, and this is %d:%d: %w", now, os.Getegid(), os.ErrPermission)
	}
	if _, err := cap.Prctlw(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("ruling out new privileges (PR_SET_NO_NEW_PRIVS): %w", err)
	}
	had, rest := cap.GetProc(), cap.NewSet()
	for _, name := range keep {
		value, err := cap.FromName(name)
		if err != nil {
			return nil, err
		}
		if has, err := had.GetFlag(cap.Permitted, value); err != nil || !has {
			continue
		}
		kept = append(kept, name)
		if err := errors.Join(rest.SetFlag(cap.Permitted, true, value), rest.SetFlag(cap.Effective, true, value)); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(cap.ResetAmbient(), rest.SetProc()); err != nil {
		return nil, fmt.Errorf("giving up capabilities: %w", err)
	}
	slices.Sort(kept)
	return slices.Compact(kept), nil
}

// become changes user and groups, and keeps capabilities.
func become(to User) error {
	if err := cap.SetGroups(to.GID, to.Groups...); err != nil {
		return err
	}
	return cap.SetUID(to.UID)
}

// permitted names the capabilities that this process has.
func permitted() (names []string) {
	has := cap.GetProc()
	for value := range cap.MaxBits() {
		if on, err := has.GetFlag(cap.Permitted, value); err == nil && on {
			names = append(names, value.String())
		}
	}
	if len(names) == int(cap.MaxBits()) {
		return []string{"all"}
	}
	return names
}

package privilege

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// Drop changes the user of the process, if that is root now, and gives up all its capabilities but those in keep (named as in
// capabilities(7)). No program that it executes will get more (no_new_privs), and no other process of its user can trace it. This affects
// all threads, and cannot be undone. Drop returns the capabilities that the process has kept, as far as it had them.
//
// If to is root, nothing changes. A process that is not root keeps its user. A process that is root but may not change its user, as in some
// containers, gets an error if asked says that the user was asked for; else it stays root without root's capabilities.
func Drop(to User, asked bool, keep []string) (kept []string, err error) {
	now := os.Geteuid()
	switch {
	case now == 0 && to.Root():
		return permitted(), nil
	case now == 0:
		if err := become(to); err != nil && asked {
			return nil, fmt.Errorf("cannot become this user, which needs CAP_SETUID and CAP_SETGID: %w", err)
		}
	case asked && now != to.UID:
		return nil, fmt.Errorf("only root can become another user, and this is %d: %w", now, os.ErrPermission)
	case asked && to.grouped && os.Getegid() != to.GID:
		return nil, fmt.Errorf("only root can change its group, and this is %d:%d: %w", now, os.Getegid(), os.ErrPermission)
	}
	if _, err := cap.Prctlw(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("setting no_new_privs (PR_SET_NO_NEW_PRIVS): %w", err)
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
	// Sockets and memory stay: without this, other processes of the user could take them (ptrace(2), pidfd_getfd(2), /proc/PID/mem), as soon as
	// this process has no more capabilities than they have.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("keeping other processes of this user out (PR_SET_DUMPABLE): %w", err)
	}
	if err := errors.Join(cap.ResetAmbient(), rest.SetProc()); err != nil {
		return nil, fmt.Errorf("giving up capabilities: %w", err)
	}
	slices.Sort(kept)
	return slices.Compact(kept), nil
}

// become changes the user and the groups. It keeps the capabilities.
func become(to User) error {
	if err := cap.SetGroups(to.GID, to.Groups...); err != nil {
		return err
	}
	return cap.SetUID(to.UID)
}

// permitted returns the names of the capabilities that this process has.
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

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
		err := cap.SetGroups(to.GID, to.Groups...)
		if err == nil {
			err = cap.SetUID(to.UID) // which keeps the capabilities
		}
		if err != nil && asked {
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
	var values []cap.Value
	had := cap.GetProc()
	for _, name := range slices.Compact(slices.Sorted(slices.Values(keep))) {
		value, err := cap.FromName(name)
		if err != nil {
			return nil, err
		}
		if has, _ := had.GetFlag(cap.Permitted, value); has {
			kept, values = append(kept, name), append(values, value)
		}
	}
	rest := cap.NewSet()
	if err := errors.Join(rest.SetFlag(cap.Permitted, true, values...), rest.Fill(cap.Effective, cap.Permitted)); err != nil {
		return nil, err
	}
	// Sockets and memory stay: without this, other processes of the user could take them (ptrace(2), pidfd_getfd(2), /proc/PID/mem), as soon as
	// this process has no more capabilities than they have.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("keeping other processes of this user out (PR_SET_DUMPABLE): %w", err)
	}
	if err := errors.Join(cap.ResetAmbient(), rest.SetProc()); err != nil {
		return nil, fmt.Errorf("giving up capabilities: %w", err)
	}
	return kept, nil
}

// Becomes tells whether Drop will change the user of this process to another one.
func Becomes(to User) bool {
	has := cap.GetProc()
	for _, needed := range []cap.Value{cap.SETUID, cap.SETGID} {
		if may, err := has.GetFlag(cap.Permitted, needed); err != nil || !may {
			return false
		}
	}
	return os.Geteuid() == 0 && !to.Root()
}

// permitted returns the names of the capabilities that this process has.
func permitted() (names []string) {
	has := cap.GetProc()
	for value := range cap.MaxBits() {
		if on, _ := has.GetFlag(cap.Permitted, value); on {
			names = append(names, value.String())
		}
	}
	if len(names) == int(cap.MaxBits()) {
		return []string{"all"}
	}
	return names
}

// Raise makes the permitted capabilities of the process effective, for all its threads. A file without the effective flag (setcap
// cap_net_raw,cap_bpf=p) only permits its capabilities; in return it can be executed where some of them are not allowed.
func Raise() error {
	is, raised := cap.GetProc(), cap.GetProc()
	if err := raised.Fill(cap.Effective, cap.Permitted); err != nil {
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

// Package privilege gives up the privileges that a process does not need.
package privilege

import (
	"errors"
	"fmt"
	"os/user"
	"strconv"
	"strings"
)

// DefaultUser is "nonroot" of the distroless container images. It is not nobody, which other daemons use: processes of the same user may
// signal and trace each other.
const DefaultUser = "65532"

// User is the user and the groups of a process.
type User struct {
	UID, GID int
	Groups   []int // supplementary
	grouped  bool  // the group was asked for
}

// Root reports whether the user is root.
func (u User) Root() bool { return u.UID == 0 }

func (u User) String() string { return fmt.Sprintf("%d:%d", u.UID, u.GID) }

// maxID is the largest identifier: the next one means "unchanged" (setresuid(2)).
const maxID = 1<<32 - 2

// ParseUser parses a user, as number or name, and optionally a group after a colon. Without a group, a name has the groups of that user,
// and a number has the group of the same number.
func ParseUser(s string) (User, error) {
	name, group, grouped := strings.Cut(s, ":")
	var u User
	if id, err := parseID(name); err == nil {
		u = User{UID: id, GID: id}
	} else if named, err := user.Lookup(name); err != nil {
		return User{}, fmt.Errorf("expected the number or name of a user such as %s, root or promflow:promflow", DefaultUser)
	} else if u, err = numbers(named); err != nil {
		return User{}, err
	}
	if !grouped {
		return u, nil
	}
	gid, err := parseID(group)
	if err != nil {
		named, err := user.LookupGroup(group)
		if err != nil {
			return User{}, fmt.Errorf("there is no group %q", group)
		}
		if gid, err = parseID(named.Gid); err != nil {
			return User{}, err
		}
	}
	if u.Root() && gid != 0 {
		return User{}, errors.New("root keeps its groups: expected root alone, or another user")
	}
	return User{UID: u.UID, GID: gid, grouped: true}, nil
}

func numbers(named *user.User) (User, error) {
	groups, err := named.GroupIds()
	if err != nil {
		return User{}, fmt.Errorf("groups of %s: %w", named.Username, err)
	}
	var ids []int
	for _, s := range append([]string{named.Uid, named.Gid}, groups...) {
		id, err := parseID(s)
		if err != nil {
			return User{}, err
		}
		ids = append(ids, id)
	}
	return User{UID: ids[0], GID: ids[1], Groups: ids[2:]}, nil
}

func parseID(s string) (int, error) {
	id, err := strconv.ParseUint(s, 10, 32)
	if err == nil && id > maxID {
		err = strconv.ErrRange
	}
	return int(id), err
}

// Package privilege gives up what a process may do beyond what it has to.
package privilege

import (
	"errors"
	"fmt"
	"os/user"
	"strconv"
	"strings"
)

// DefaultUser is "nonroot" of the distroless container images. It is not nobody, whom other daemons share: who has the same
// user may send signals and trace.
const DefaultUser = "65532"

// User is who a process is to be.
type User struct {
	UID, GID int
	Groups   []int // supplementary ones
	grouped  bool  // the group was asked for
}

// Root keeps what root may do.
func (u User) Root() bool { return u.UID == 0 }

func (u User) String() string { return fmt.Sprintf("%d:%d", u.UID, u.GID) }

// maxID is the largest identifier; the one beyond means none (setresuid(2)).
const maxID = 1<<32 - 2

// ParseUser reads a user, by number or by name, and maybe a group behind a colon. Without one, the groups are those of the named user,
// or the one that has the number's value.
func ParseUser(s string) (User, error) {
	name, group, grouped := strings.Cut(s, ":")
	u := User{}
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
			return User{}, fmt.Errorf("%q is no group", group)
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

func numbers(named *user.User) (u User, err error) {
	groups, err := named.GroupIds()
	if err != nil {
		return User{}, fmt.Errorf("groups of %s: %w", named.Username, err)
	}
	var errs [2]error
	u.UID, errs[0] = parseID(named.Uid)
	u.GID, errs[1] = parseID(named.Gid)
	for _, group := range groups {
		gid, err := parseID(group)
		u.Groups, errs[1] = append(u.Groups, gid), errors.Join(errs[1], err)
	}
	return u, errors.Join(errs[:]...)
}

func parseID(s string) (int, error) {
	id, err := strconv.ParseUint(s, 10, 32)
	if err == nil && id > maxID {
		err = strconv.ErrRange
	}
	return int(id), err
}

package subnets

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"
)

// Auto is an entry of a list that stands for the on-link prefixes of the captured interfaces.
const Auto = "auto"

// List is a list of subnets as a user writes it. Its entries may stand for more than one subnet: a file of entries, or Auto.
type List struct {
	text    string
	entries []entry
}

// entry is a prefix, a file of entries, or neither for Auto.
type entry struct {
	text   string // as the user wrote it
	name   string // empty for none
	prefix netip.Prefix
	file   string
	at     string // FILE:LINE that has it; empty for none
}

// ParseList reads entries that are separated by commas: prefixes in CIDR notation, single addresses, @FILE for a file of entries, and
// Auto. Each but @FILE may have a name, as in lan=192.168.0.0/24, and several may have the same one. Host bits are masked off:
// 192.168.0.1/24 is 192.168.0.0/24. Space around an entry or a name is ignored. An empty list is valid. The error quotes the entry that is
// wrong. ParseList reads no files.
func ParseList(text string) (List, error) {
	l := List{text: strings.TrimSpace(text)}
	if l.text == "" {
		return l, nil
	}
	for field := range strings.SplitSeq(text, ",") {
		e, err := parseEntry(field)
		if err != nil {
			return List{}, err
		}
		l.entries = append(l.entries, e)
	}
	return l, nil
}

func parseEntry(field string) (e entry, err error) {
	field = strings.TrimSpace(field)
	e.text = field
	if file, ok := strings.CutPrefix(field, "@"); ok {
		if file == "" {
			err = errors.New(`"@" needs a file, as in @/etc/promflow/subnets`)
		}
		e.file = file
		return e, err
	}
	name, subnet, named := strings.Cut(field, "=")
	if !named {
		name, subnet = "", field
	}
	e.name, subnet = strings.TrimSpace(name), strings.TrimSpace(subnet)
	if named && (e.name == "" || !utf8.ValidString(e.name) || strings.ContainsFunc(e.name, unicode.IsControl)) {
		return e, fmt.Errorf("%q needs a printable name before the =, as in lan=192.168.0.0/24", field)
	}
	if slices.Contains([]string{External, Multicast, Other}, e.name) {
		return e, fmt.Errorf("%q cannot be the name of a subnet: choose another, this one is reserved", e.name)
	}
	if subnet == Auto {
		return e, nil
	}
	if e.prefix, err = netip.ParsePrefix(subnet); err != nil {
		addr, err := netip.ParseAddr(subnet)
		if err != nil || addr.Zone() != "" {
			return e, fmt.Errorf("%q is not a subnet such as 192.168.0.0/24 or fd00::/64", subnet)
		}
		e.prefix = netip.PrefixFrom(addr, addr.BitLen())
	}
	e.prefix = e.prefix.Masked()
	return e, nil
}

// readFile reads a file of entries: one or more in a line, separated by commas. What follows # in a line is a comment. The error has the
// file and the line.
func readFile(name string) (entries []entry, err error) {
	text, err := ReadFile(name)
	if err != nil {
		return nil, err
	}
	number := 0
	for line := range bytes.Lines(bytes.TrimPrefix(text, []byte("\ufeff"))) { // a byte order mark
		number++
		at := fmt.Sprintf("%s:%d", name, number)
		line, _, _ = bytes.Cut(line, []byte("#"))
		l, err := ParseList(string(bytes.TrimSuffix(bytes.TrimSpace(line), []byte(","))))
		if err == nil && slices.ContainsFunc(l.entries, func(e entry) bool { return e.file != "" }) {
			err = errors.New("a file of subnets cannot name another one")
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", at, err)
		}
		for _, e := range l.entries {
			e.at = at
			entries = append(entries, e)
		}
	}
	return entries, nil
}

// maxFile is how large a file of entries may be, in bytes.
const maxFile = 16 << 20

// ReadFile returns what a file of entries has. It reads no pipes: files are read again and again. The error has the name.
func ReadFile(name string) ([]byte, error) {
	// Without O_NONBLOCK, opening a named pipe may block for ever.
	file, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(fmt.Errorf("%s is not a regular file", name), err)
	}
	text, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("%s is larger than %d MiB", name, maxFile>>20)
	}
	return text, err
}

// wrong adds the line that has the entry to an error, if it is from a file.
func (e entry) wrong(err error) error {
	if e.at == "" {
		return err
	}
	return fmt.Errorf("%s: %w", e.at, err)
}

// Empty tells whether the list has no entries.
func (l List) Empty() bool { return len(l.entries) == 0 }

// HasAuto tells whether Auto is in the list itself. It may also be in its files.
func (l List) HasAuto() bool {
	return slices.ContainsFunc(l.entries, func(e entry) bool { return !e.prefix.IsValid() && e.file == "" })
}

// Files returns the files that the list names.
func (l List) Files() (files []string) {
	for _, e := range l.entries {
		if e.file != "" {
			files = append(files, e.file)
		}
	}
	return files
}

// Read reads the files of the list. The set that it returns is without Auto's prefixes; auto has the names that these get, "" for none,
// if the list has Auto.
func (l List) Read() (s Set, auto []string, err error) {
	var prefixes []netip.Prefix
	var names []string
	nameOf := map[netip.Prefix]string{}
	add := func(e entry) error {
		name, known := nameOf[e.prefix]
		switch {
		case !e.prefix.IsValid():
			auto = append(auto, e.name)
		case known && name != e.name:
			return e.wrong(fmt.Errorf("%s is listed twice, with different names", e.prefix))
		case !known:
			nameOf[e.prefix] = e.name
			prefixes, names = append(prefixes, e.prefix), append(names, e.name)
		}
		return nil
	}
	for _, e := range l.entries {
		entries := []entry{e}
		if e.file != "" {
			if entries, err = readFile(e.file); err != nil {
				return Set{}, nil, err
			}
		}
		for _, e := range entries {
			if err := add(e); err != nil {
				return Set{}, nil, err
			}
		}
	}
	return named(prefixes, names), auto, nil
}

func (l List) String() string { return l.text }

package detour

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// attributes calls f for each attribute of netlink(7) in b.
func attributes(b []byte, f func(kind uint16, value []byte) error) error {
	for len(b) >= unix.SizeofNlAttr {
		length, kind := int(binary.NativeEndian.Uint16(b)), binary.NativeEndian.Uint16(b[2:])
		if length < unix.SizeofNlAttr || length > len(b) {
			return fmt.Errorf("an attribute of %d bytes in %d", length, len(b))
		}
		if err := f(kind&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), b[unix.SizeofNlAttr:length]); err != nil {
			return err
		}
		const align = unix.NLA_ALIGNTO - 1
		b = b[min((length+align)&^align, len(b)):]
	}
	return nil
}

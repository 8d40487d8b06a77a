package xdp

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/safchain/ethtool"
)

// driverOf returns the name of an interface's driver, behind a space; nothing if it has none.
func driverOf(name string) string {
	driver, err := os.Readlink(filepath.Join("/sys/class/net", name, "device/driver"))
	if err != nil {
		return ""
	}
	return " " + filepath.Base(driver)
}

// tagsRemoved returns the features, as ethtool(8) names them, by which a driver removes VLAN tags from frames before XDP sees them.
func tagsRemoved(name string) (on []string, err error) {
	e, err := ethtool.NewEthtool()
	if err != nil {
		return nil, fmt.Errorf("asking for the features of %s: %w", name, err)
	}
	defer e.Close()
	features, err := e.Features(name)
	if err != nil {
		return nil, fmt.Errorf("asking for the features of %s: %w", name, err)
	}
	for _, feature := range []string{"rx-vlan-hw-parse", "rx-vlan-stag-hw-parse"} {
		if features[feature] {
			on = append(on, feature)
		}
	}
	return on, nil
}

package live

import (
	"fmt"
	"net"
	"os"
	"strings"
)

// checkInterface returns an error that lists this machine's interfaces if name is not one of them. from is the name's flag or variable.
func checkInterface(name, from string) error {
	all, err := net.Interfaces()
	if err != nil {
		return fmt.Errorf("listing the network interfaces: %w", err)
	}
	routed := defaultRoutes()
	var known []string
	for _, each := range all {
		if each.Name == name {
			return nil
		}
		hint := each.Name
		if routed[each.Name] {
			hint += " (has the default route)"
		}
		known = append(known, hint)
	}
	return fmt.Errorf("%s %q: no such network interface; this machine has %s", from, name, strings.Join(known, ", "))
}

// defaultRoutes returns the names of the interfaces with a default route, on Linux (proc_net(5)).
func defaultRoutes() map[string]bool {
	names := map[string]bool{}
	for _, route := range tableOf("/proc/net/route") { // device, destination, ..., mask
		if len(route) > 7 && route[1] == "00000000" && route[7] == "00000000" {
			names[route[0]] = true
		}
	}
	for _, route := range tableOf("/proc/net/ipv6_route") { // destination, prefix length, ..., device
		if len(route) > 9 && route[1] == "00" && route[9] != "lo" { // lo has the kernel's unreachable route
			names[route[9]] = true
		}
	}
	return names
}

// tableOf returns the fields of each line of a file. A file that cannot be read has none.
func tableOf(file string) (rows [][]string) {
	content, _ := os.ReadFile(file)
	for line := range strings.Lines(string(content)) {
		rows = append(rows, strings.Fields(line))
	}
	return rows
}

// Package driver asks Linux what the drivers of network interfaces can do for XDP.
package driver

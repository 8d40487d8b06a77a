//go:build !linux

package detour

// Look finds nothing: what this package is about is Linux.
func Look() *Namespace { return &Namespace{} }

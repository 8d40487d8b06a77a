// Package e2e has the tests that run the whole program: as a process of its own, on real interfaces, with a real Prometheus, collector and
// browser.
package e2e

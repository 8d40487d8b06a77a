// Package capturetest is the conformance suite of capture backends, and the network namespaces that tests with real
// packets run in.
package capturetest

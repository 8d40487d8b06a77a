// Package capturetest has the conformance suite of capture backends, and network namespaces for tests with real packets.
package capturetest

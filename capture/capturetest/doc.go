// Package capturetest has the conformance suite of capture backends.
package capturetest

// Package nettest has networks for tests, and for the programs that soak and compare promflow: namespaces, the interfaces between them,
// senders of frames, floods, and programs that watch. What fails ends the test.
package nettest

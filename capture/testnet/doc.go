// Package testnet has networks for tests: namespaces, the interfaces between them, and senders of frames.
package testnet

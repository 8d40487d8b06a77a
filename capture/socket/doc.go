// Package socket has the packet sockets of Linux (packet(7)) that capture backends hang on: bound to one interface, and able
// to tell what becomes of it.
package socket

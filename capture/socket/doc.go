// Package socket has the packet sockets of Linux (packet(7)) that capture backends use. A socket is bound to one interface, and knows
// whether that exists and is up.
package socket

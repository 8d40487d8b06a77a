//go:build linux && (386 || arm || mips || mipsle)

package ebpf

// twoStores says that processors like this one write a word of 64 bits in two.
const twoStores uint32 = 1

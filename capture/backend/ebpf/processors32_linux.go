//go:build linux && (386 || arm || mips || mipsle)

package ebpf

// twoStores is 1 as these processors write a 64-bit word in two stores.
const twoStores uint32 = 1

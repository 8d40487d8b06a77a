//go:build linux && !(386 || arm || mips || mipsle)

package ebpf

// twoStores is 0 as these processors write a 64-bit word in one store.
const twoStores uint32 = 0

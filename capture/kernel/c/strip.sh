#!/bin/sh
# bpf2go calls this to strip an object. It also removes the source line of each instruction: these are most of the object.
llvm-strip "$@" && llvm-objcopy --remove-section=.BTF.ext --remove-section=.rel.BTF.ext "$2"

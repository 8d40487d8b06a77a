#!/bin/sh
# What bpf2go calls to strip an object: it also takes out the lines of the source that each instruction is of, which are most of the object.
llvm-strip "$@" && llvm-objcopy --remove-section=.BTF.ext --remove-section=.rel.BTF.ext "$2"

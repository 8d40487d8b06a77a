package kernel

//go:generate go tool bpf2go -type range4 -type range6 -type place6 -type range_limit -type no_slot -type slots_state -type line -type direction -type sum -type place_flag -type station -type place_limit -type label_at -strip c/strip.sh -tags linux count c/count.c -- -mcpu=v2 -Wall -Wextra -Werror -Wno-unused-parameter -I/usr/include/x86_64-linux-gnu -I/usr/include/aarch64-linux-gnu

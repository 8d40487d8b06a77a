#!/usr/bin/env bash
# Builds the image twice, which has to give the same digest, and runs it as examples/container/README.md says, with runc and with podman: on the host's
# network (here, a namespace that stands for it), by variables alone, not as root, on a root filesystem that is read-only, with
# NET_RAW and BPF and then with NET_RAW alone. Each has to count what comes in, and to answer its health check. With a volume, the next
# container goes on with the totals of the last.
#
# As root, with runc, podman, jq and iproute2. Containers, image and namespaces are gone at the end.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

scratch=$(mktemp -d)
host=promflow-image-host peer=promflow-image-peer
image=
# What podman takes where it runs in a machine that limits itself, as a container does.
engine=(podman --root="$scratch/podman" --runroot="$scratch/run" --storage-driver=vfs --cgroup-manager=cgroupfs --runtime=runc)

tidy_up() {
	runc delete --force promflow-image 2>/dev/null || true
	if [ -n "$image" ]; then
		"${engine[@]}" rm --force --time=1 promflow-image >/dev/null 2>&1 || true
		"${engine[@]}" volume rm --force promflow-image >/dev/null 2>&1 || true
	fi
	ip netns delete $host 2>/dev/null || true
	ip netns delete $peer 2>/dev/null || true
	umount "$scratch"/podman/* 2>/dev/null || true
	rm -rf "$scratch"
}
trap tidy_up EXIT

fail() {
	echo "test.sh: $*" >&2
	exit 1
}

echo "--- The image, twice"
.release/image/build.sh -o "$scratch/image.tar" | tee "$scratch/first"
# Nothing that was compiled before is of use to the second one.
rm -f dist/promflow-linux-*
.release/image/build.sh -o "$scratch/again.tar" >"$scratch/second"
[ "$(tail -n +2 "$scratch/first")" = "$(tail -n +2 "$scratch/second")" ] || fail "the second one has other digests: $(cat "$scratch/second")"
cmp "$scratch/image.tar" "$scratch/again.tar"

# The machine: eth0 has 10.9.0.1/24, and a neighbour.
ip netns add $host
ip netns add $peer
ip -n $host link add eth0 type veth peer name eth0 netns $peer
for each in $host/1 $peer/2; do
	ip -n "${each%/*}" address add "10.9.0.${each#*/}/24" dev eth0
	ip -n "${each%/*}" link set lo up
	ip -n "${each%/*}" link set eth0 up
done
variables=(PROMFLOW_INTERFACE=eth0 PROMFLOW_MONITOR_SUBNETS=10.9.0.0/24)

# on_host COMMAND... runs it on the host's network. ip netns exec would hide the machine's cgroups, too.
on_host() { nsenter --net=/run/netns/$host -- "$@"; }

# counts BACKEND TOTAL COMMAND... waits until promflow counts a ping from the neighbour by that backend, so that each total is as given, and
# has the command ask for its health.
counts() {
	local backend=$1 total=$2 deadline=$((SECONDS + 30)) page
	shift 2
	until page=$(on_host curl -sf http://localhost:9088/metrics); do
		[ $SECONDS -lt $deadline ] || fail "nothing is served: $(cat "$scratch/log")"
		sleep 0.1
	done
	grep -q "^promflow_capture_up{backend=\"$backend\",interface=\"eth0\"} 1$" <<<"$page" || fail "it is not $backend that captures: $(cat "$scratch/log")"
	# 20 bytes of IP and 8 of ICMP around 1000, 5 times; ARP and IPv6 are none of it.
	ip netns exec $peer ping -q -c 5 -i 0.01 -s 1000 10.9.0.1 >/dev/null
	until page=$(on_host curl -sf http://localhost:9088/metrics) &&
		[ "$(grep -c '^promflow_\(receive\|transmit\)_bytes_total{ip="10.9.0.[12]"} '"$total$" <<<"$page")" -eq 4 ]; do
		[ $SECONDS -lt $deadline ] || fail "it does not count four times $total bytes: $(grep ^promflow_ <<<"$page")"
		sleep 0.1
	done
	[ "$("$@")" = OK ] || fail "the health check does not say OK"
	until grep -q 'user=65532' "$scratch/log"; do # which reaches the file by way of the engine
		[ $SECONDS -lt $deadline ] || fail "it is somebody else: $(cat "$scratch/log")"
		sleep 0.1
	done
	echo "    $backend counts to the byte, and the health check answers"
}

# The root filesystem, as any runtime unpacks it. GNU tar brings the file's capabilities along.
tar -xf "$scratch/image.tar" -C "$scratch"
blob() { echo "$scratch/blobs/${1/://}"; }
manifests=$(blob "$(jq -r '.manifests[0].digest' "$scratch/index.json")")
manifest=$(blob "$(jq -r ".manifests[] | select(.platform.architecture == \"$(go env GOARCH)\").digest" "$manifests")")
config=$(blob "$(jq -r .config.digest "$manifest")")
mkdir -p "$scratch/bundle/rootfs"
tar --xattrs --xattrs-include='*' -xzf "$(blob "$(jq -r '.layers[0].digest' "$manifest")")" -C "$scratch/bundle/rootfs"
getcap "$scratch/bundle/rootfs/promflow"
jq .config.Labels "$config"

# in_runc NAME BACKEND CAPABILITIES runs it. The process itself is given nothing, as engines do for who is not root: it has the file's
# capabilities, within these.
in_runc() {
	echo "--- runc, $1"
	(cd "$scratch/bundle" && rm -f config.json && runc spec)
	jq --slurpfile image "$config" --argjson capabilities "$3" '
		.process.terminal = false
		| .process.user = ($image[0].config.User | split(":") | {uid: (.[0] | tonumber), gid: (.[1] | tonumber)})
		| .process.args = $image[0].config.Entrypoint
		| .process.env = $ARGS.positional
		| .process.capabilities = {bounding: $capabilities}
		| .process.noNewPrivileges = false
		| .root.readonly = true
		| .linux.namespaces |= map(select(.type != "network" and .type != "cgroup"))
		| .mounts |= map(select(.destination != "/sys/fs/cgroup"))
	' --args "${variables[@]}" <"$scratch/bundle/config.json" >"$scratch/config.json"
	mv "$scratch/config.json" "$scratch/bundle/config.json"
	on_host runc run --bundle "$scratch/bundle" promflow-image 2>"$scratch/log" &
	counts "$2" 5140 on_host runc exec promflow-image /promflow health
	runc kill promflow-image TERM
	wait $! || fail "it ends with status $?: $(cat "$scratch/log")"
}
in_runc "NET_RAW and BPF" ebpf '["CAP_NET_RAW", "CAP_BPF"]'
in_runc "NET_RAW" afpacket '["CAP_NET_RAW"]'

# in_podman NAME BACKEND TOTAL FLAG... runs it.
in_podman() {
	echo "--- podman, $1"
	local backend=$2 total=$3 usage
	shift 3
	rm -f "$scratch/log"
	on_host "${engine[@]}" run --detach --name=promflow-image --network=host --ulimit=nofile=4096:4096 --ulimit=nproc=1000:1000 \
		--log-driver=k8s-file --log-opt=path="$scratch/log" --read-only --cap-drop=ALL "$@" "${variables[@]/#/--env=}" "$image" >/dev/null
	counts "$backend" "$total" on_host "${engine[@]}" exec promflow-image /promflow health
	if [[ $* == *PROMFLOW_DATA_DIR* ]]; then
		usage=$(on_host "${engine[@]}" exec promflow-image /promflow usage --period=24h --by=ip --output=csv)
		[ "$(grep -cE "\b10\.9\.0\.[12]\b.*\b$total,$total\b" <<<"$usage")" -eq 2 ] || fail "the usage is not twice $total bytes: $usage"
	fi
	[ "$("${engine[@]}" stop --time=10 promflow-image)" = promflow-image ]
	[ "$("${engine[@]}" inspect --format='{{.State.ExitCode}}' promflow-image)" = 0 ] || fail "it ends with an error: $(cat "$scratch/log")"
	"${engine[@]}" rm promflow-image >/dev/null
}
"${engine[@]}" load --quiet --input "$scratch/image.tar" | tee "$scratch/loaded"
image=$(sed 's/^Loaded image[^:]*: //' "$scratch/loaded")
# Podman 4's seccomp profile bars bpf(2) unless CAP_SYS_ADMIN is there; later ones look for CAP_BPF.
if [ "$(podman --version | grep -o '[0-9]*' | head -n 1)" -ge 5 ]; then bpf=ebpf; else bpf=afpacket; fi
in_podman "NET_RAW and BPF" $bpf 5140 --cap-add=NET_RAW,BPF
in_podman "NET_RAW and BPF, without a seccomp profile" ebpf 5140 --cap-add=NET_RAW,BPF --security-opt=seccomp=unconfined
in_podman "NET_RAW" afpacket 5140 --cap-add=NET_RAW

# The image's directory gives a new volume its owner and mode.
volume=(--cap-add=NET_RAW --volume=promflow-image:/var/lib/promflow --env=PROMFLOW_DATA_DIR=/var/lib/promflow)
in_podman "a volume" afpacket 5140 "${volume[@]}"
in_podman "the volume again" afpacket 10280 "${volume[@]}"
kept=$("${engine[@]}" volume inspect --format='{{.Mountpoint}}' promflow-image)
stat --format='%A %u:%g %s %n' "$kept" "$kept"/* | tee "$scratch/output"
[ "$(cut -d ' ' -f 1-2 "$scratch/output")" = 'drwx------ 65532:65532'$'\n''-rw------- 65532:65532' ] || fail "it is not promflow's alone"

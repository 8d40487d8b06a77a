#!/usr/bin/env bash
# Runs the pod of daemonset.yaml under a real kubelet: standalone, as a static pod, with containerd and the bridge plugin. The pod has to become
# ready, to be allowed what the manifest says and no more, and to count what other pods move, to the byte. Its probes have to pass where the web
# configuration asks for a password, and with TLS, and have to find a promflow that hangs.
#
# As root, with kubelet, containerd, containernetworking-plugins, busybox-static, curl, iproute2, jq and procps. It runs in a network, mounts and
# processes of its own, which end with it; its cgroups are gone at the end.
set -euo pipefail

unshared=
user=ali password=open-sesame
# shellcheck disable=SC2016 # bcrypt's
hash='$2a$10$qyLluLBoAudc3uLhVB65GebxLcZdOAsvXsRhkOM1sjzq27PXGNsOy'

# outside makes what runs, and where. Its parameter is the name of this script.
outside() {
	scratch=$(mktemp -d /tmp/promflow-kubernetes.XXXXXX) # not where the node has its own
	cgroup=$(basename "$scratch")
	trap tidy_up EXIT
	cd "$(dirname "$1")/../.."
	kubelet --version
	containerd --version
	runc --version | head -n 1
	.release/image/build.sh -architectures="$(go env GOARCH)" -o "$scratch/promflow.tar"
	go -C .ci/manifests build -o "$scratch/staticpod" ./staticpod
	cp -r examples/kubernetes "$scratch/with-web-config"
	sed -i '/^# components:/ { s/^# //; n; s/^# // }' "$scratch/with-web-config/kustomization.yaml"
	"$scratch/staticpod" examples/kubernetes >"$scratch/as-it-is.json"
	"$scratch/staticpod" "$scratch/with-web-config" >"$scratch/with-web-config.json"
	(cd "$scratch" && go run "$(go env GOROOT)/src/crypto/tls/generate_cert.go" --host=10.9.0.1 2>generate_cert.log)
	for each in $(hierarchies); do mkdir -p "$each/$cgroup"; done
	unshare --mount --net --pid --fork --kill-child --mount-proc bash examples/kubernetes/test.sh inside "$scratch" &
	unshared=$!
	wait $unshared
}

# hierarchies prints those of cgroups: the one of version 2, or all of version 1.
hierarchies() {
	if [ -e /sys/fs/cgroup/cgroup.procs ]; then
		echo /sys/fs/cgroup
	else
		dirname /sys/fs/cgroup/*/cgroup.procs
	fi
}

tidy_up() {
	# What runs inside ends with its first process, and unshare after that.
	if [ -n "$unshared" ]; then
		pkill -KILL --parent "$unshared" || true
		wait "$unshared" || true
	fi
	for each in $(hierarchies); do
		if [ -d "$each/$cgroup" ]; then find "$each/$cgroup" -depth -type d -exec rmdir {} \;; fi
	done
	rm -rf "$scratch"
}

fail() {
	{
		tail -n 20 containerd.log kubelet.log /var/log/pods/*/*/*.log || true
		echo "test.sh: $*"
	} >&2
	exit 1
}

# within SECONDS COMMAND... waits until it succeeds.
within() {
	local deadline=$((SECONDS + $1))
	shift
	until "$@"; do
		[ $SECONDS -lt $deadline ] || return 1
		sleep 0.1
	done
}

# archive NAME ENTRYPOINT writes NAME.tar, an image with busybox and nothing else.
archive() {
	mkdir -p "$1"
	tar -cf "$1/layer.tar" -C / --transform='s,.*,busybox,' "$(command -v busybox | cut -c 2-)"
	jq -n --arg layer "sha256:$(sha256sum "$1/layer.tar" | cut -d ' ' -f 1)" --arg architecture "$(go env GOARCH)" --argjson entrypoint "$2" \
		'{$architecture, os: "linux", config: {Entrypoint: $entrypoint}, rootfs: {type: "layers", diff_ids: [$layer]}}' >"$1/config.json"
	jq -n --arg name "$1" '[{Config: "config.json", RepoTags: ["localhost/\($name):latest"], Layers: ["layer.tar"]}]' >"$1/manifest.json"
	tar -cf "$1.tar" -C "$1" manifest.json config.json layer.tar
}

# node makes the node: its network, files, containerd and kubelet.
node() {
	ip link set lo up
	ip link add eth0 type veth peer name eth0 netns "$neighbour"
	ip address add 10.9.0.1/24 dev eth0
	ip link set eth0 up
	ip route add default via 10.9.0.2
	in_neighbour ip link set lo up
	in_neighbour ip address add 10.9.0.2/24 dev eth0
	in_neighbour ip link set eth0 up
	in_neighbour ip route add 10.244.0.0/16 via 10.9.0.1

	# A kubelet sets these for the whole machine, unless it finds them set.
	local setting
	for setting in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
		kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
		mkdir -p "settings/$(dirname "${setting%=*}")"
		echo "${setting#*=}" >"settings/${setting%=*}"
		mount --bind "settings/${setting%=*}" "/proc/sys/${setting%=*}"
	done

	mkdir cni manifests volume-plugins
	cat >cni/bridge.conflist <<-'EOF'
		{"cniVersion": "0.4.0", "name": "pods", "plugins": [{
		  "type": "bridge", "bridge": "cni0", "isGateway": true,
		  "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.244.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}
		}]}
	EOF
	cat >containerd.toml <<-EOF
		version = 2
		[plugins."io.containerd.grpc.v1.cri"]
		sandbox_image = "localhost/pause:latest"
		restrict_oom_score_adj = true # a container that this runs in may not have CAP_SYS_RESOURCE
		[plugins."io.containerd.grpc.v1.cri".cni]
		bin_dir = "/usr/lib/cni"
		conf_dir = "$PWD/cni"
	EOF
	containerd --config containerd.toml >containerd.log 2>&1 &
	within 30 ctr version >/dev/null 2>&1 || fail "containerd does not answer"
	archive pause '["/busybox", "sleep", "2147483647"]'
	for each in pause promflow; do ctr -n k8s.io images import "$each.tar" >/dev/null || fail "containerd does not take the image $each"; done
	ctr -n k8s.io images tag "$(ctr -n k8s.io images list -q name~=localhost/promflow)" "$(jq -r '.spec.containers[0].image' as-it-is.json)" >/dev/null

	echo "nameserver 10.9.0.2" >resolv.conf
	cat >kubelet.yaml <<-EOF
		apiVersion: kubelet.config.k8s.io/v1beta1
		kind: KubeletConfiguration
		authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
		authorization: {mode: AlwaysAllow}
		address: 127.0.0.1
		readOnlyPort: 10255
		containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
		staticPodPath: $PWD/manifests
		volumePluginDir: $PWD/volume-plugins
		resolvConf: $PWD/resolv.conf
		clusterDNS: [10.96.0.10]
		cgroupRoot: /$cgroup
		cgroupDriver: cgroupfs
		failCgroupV1: false
		failSwapOn: false
		protectKernelDefaults: true
		makeIPTablesUtilChains: false
		imageGCHighThresholdPercent: 100
		evictionHard: {memory.available: "0%", nodefs.available: "0%", nodefs.inodesFree: "0%", imagefs.available: "0%", imagefs.inodesFree: "0%"}
	EOF
	kubelet --config=kubelet.yaml --hostname-override=node --node-ip=10.9.0.1 >kubelet.log 2>&1 &
	within 30 curl -sf -o /dev/null http://127.0.0.1:10255/healthz || fail "the kubelet does not answer"
}

in_neighbour() { nsenter --target "$neighbour" --net "$@"; }

# start CASE FILE FILTER has the kubelet run the file's pod as jq's filter changes it, in place of the one before.
start() {
	echo "--- $1"
	jq --arg case "$1" ".metadata.annotations.case = \$case | $3" "$2" >promflow.json
	mv promflow.json manifests # at once
	within 60 is_ready promflow "$1" || fail "$1: the pod does not get ready: $(pod promflow .status)"
	[ "$(pod promflow '.status.containerStatuses[0].restartCount')" = 0 ] || fail "$1: it was started again"
	within 30 is_alive || fail "$1: the liveness probe does not pass: $(probes)"
}

# pod NAME FILTER prints what jq's filter finds in a pod of the kubelet's.
pod() { curl -sf http://127.0.0.1:10255/pods | jq -cer --arg name "$1-node" ".items[] | select(.metadata.name == \$name) | $2"; }

# is_ready NAME [CASE]
is_ready() {
	pod "$1" 'select(.status.conditions // [] | any(.type == "Ready" and .status == "True")) | .metadata.annotations.case // ""' | grep -qxF "${2-}"
}

probes() {
	curl -sf http://127.0.0.1:10255/metrics/probes | grep "^prober_probe_total.*pod_uid=\"$(pod promflow .metadata.uid)\""
}

is_alive() { probes | grep -q 'probe_type="Liveness".*result="successful"'; }

# container NAME prints the identifier of the pod's container, process NAME the number of its process.
container() { pod "$1" '.status.containerStatuses[0].containerID | ltrimstr("containerd://")'; }
process() { ctr -n k8s.io tasks list | awk -v id="$(container "$1")" '$1 == id { print $2 }'; }

# pings POD ADDRESS sends 5 packets of 20 bytes of IP, 8 of ICMP, and 1000, and gets as many.
pings() { ctr -n k8s.io tasks exec --exec-id "to-$2" "$(container "$1")" /busybox ping -q -c 5 -A -s 1000 "$2" >ping.log || fail "$(cat ping.log)"; }

page() { curl -sf --cacert cert.pem "$@"; }

# counts EXPECTED, of all addresses but the bridge's own, which sends IGMP.
counts() {
	[ "$(page http://10.9.0.1:9088/metrics | grep '^promflow_\(receive\|transmit\)_bytes_total' | grep -vF '"10.244.0.1"' | sort)" = "$1" ]
}

captures() { page http://10.9.0.1:9088/metrics | grep '^promflow_capture_up{.*interface="cni0"} 1$'; }

# inside is the machine that has the node.
inside() {
	cd "$scratch"
	mount -t tmpfs tmpfs /run
	mount -t tmpfs tmpfs /var
	mkdir -p /var/lib /var/log /var/tmp
	ln -s /run /var/run
	unshare --net sleep infinity &
	neighbour=$!
	within 10 is_apart || fail "no network for the neighbour"
	node

	# The interface that it waits for comes with the first pod that has a network of its own.
	start "daemonset.yaml, as it is" as-it-is.json .
	for each in a b; do
		jq -n --arg name $each '{apiVersion: "v1", kind: "Pod", metadata: {$name},
			spec: {containers: [{$name, image: "localhost/pause", imagePullPolicy: "Never"}]}}' >$each.json
		mv $each.json manifests
	done
	for each in a b; do within 60 is_ready $each || fail "pod $each does not get ready"; done
	within 30 captures || fail "it does not capture"
	a=$(pod a .status.podIP) b=$(pod b .status.podIP)
	pings a "$b"
	pings a 10.9.0.1
	pings a 10.9.0.2
	expected="promflow_receive_bytes_total{ip=\"$a\"} 15420
promflow_receive_bytes_total{ip=\"$b\"} 5140
promflow_transmit_bytes_total{ip=\"$a\"} 15420
promflow_transmit_bytes_total{ip=\"$b\"} 5140"
	within 10 counts "$expected" || fail "it counts other than to the byte: $(page http://10.9.0.1:9088/metrics | grep ^promflow)"
	echo "$expected"

	pid=$(process promflow)
	grep -E '^(Uid|Gid|Cap...|NoNewPrivs|Seccomp):' "/proc/$pid/status" | tee status
	for each in 'Uid: 65532 65532 65532 65532' 'Gid: 65532 65532 65532 65532' 'CapBnd: 0000008000002000' 'Seccomp: 2'; do
		tr -s '\t' ' ' <status | grep -qxF "$each" || fail "it is not confined as daemonset.yaml says: no \"$each\""
	done
	if touch "/proc/$pid/root/file" 2>touch.log; then fail "its root is writable"; fi
	cat touch.log
	grep -qF 'Read-only file system' touch.log || fail "its root is not read-only"

	# A kubelet without an API server knows no Secrets.
	mkdir -m 755 password certificate
	echo "basic_auth_users: {$user: $hash}" | tee password/web.yml >certificate/web.yml
	echo "tls_server_config: {cert_file: cert.pem, key_file: key.pem, client_auth_type: RequireAnyClientCert}" >>certificate/web.yml
	install -m 644 cert.pem key.pem certificate
	from_host='(.spec.volumes[] | select(has("secret"))) |= {name, hostPath: {path: "'$PWD'/FOLDER"}}'
	start "with a password" with-web-config.json "${from_host/FOLDER/password}"
	if page http://10.9.0.1:9088/metrics >/dev/null; then fail "it asks for no password"; fi
	page --user $user:$password http://10.9.0.1:9088/metrics >/dev/null || fail "it does not take the password"

	start "with a password and certificates, and impatient probes" with-web-config.json "${from_host/FOLDER/certificate}
		| .spec.terminationGracePeriodSeconds = 1
		| .spec.containers[0] |= ((.livenessProbe, .readinessProbe) |= . + {periodSeconds: 1, timeoutSeconds: 2})"
	if page --user $user:$password https://10.9.0.1:9088/metrics >/dev/null; then fail "it asks for no certificate"; fi
	page --cert cert.pem --key key.pem --user $user:$password https://10.9.0.1:9088/metrics >/dev/null || fail "it does not take the certificate"
	echo "--- and stopped"
	kill -STOP "$(process promflow)"
	within 60 is_restarted || fail "a promflow that hangs is not started again: $(pod promflow .status)"
	pod promflow '.status.containerStatuses[0] | {restartCount, lastState}'
}

is_apart() { [ "$(readlink "/proc/$neighbour/ns/net")" != "$(readlink /proc/self/ns/net)" ]; }

is_restarted() { is_ready promflow "$(pod promflow .metadata.annotations.case)" && [ "$(pod promflow '.status.containerStatuses[0].restartCount')" = 1 ]; }

if [ "${1-}" = inside ]; then
	scratch=$2 cgroup=$(basename "$2")
	inside
else
	outside "$0"
fi

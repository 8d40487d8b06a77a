#!/usr/bin/env bash
# Packs promflow twice, which has to give the same files, has lintian and rpmlint look at them, and then does with them what their users
# do, on a clean Debian of this machine's release with a systemd of its own: the README's first minute, by its own commands; what the
# unit promises; upgrade and removal, by dpkg and by rpm.
#
# As root on Debian, with cpio, debootstrap, iproute2, lintian, python3, rpm and rpmlint. Root filesystem, processes and namespaces are gone at
# the end.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

scratch=$(mktemp -d)
root=$scratch/root peer=promflow-packages-peer
first=        # process of the clean machine, systemd, by its number on this one
unshared=     # its parent
background=() # what ends with this

tidy_up() {
	# The clean machine's processes end with its systemd. unshare waits for that, so that none writes to what is removed below.
	if [ -n "$first" ] && kill -KILL "$first" 2>/dev/null; then wait "$unshared" 2>/dev/null || true; fi
	for each in "${background[@]}"; do kill -KILL "$each" 2>/dev/null || true; done
	wait "${background[@]}" 2>/dev/null || true
	ip netns delete $peer 2>/dev/null || true
	rm -rf "$scratch"
}
trap tidy_up EXIT

fail() {
	echo "test.sh: $*" >&2
	if [ -n "$first" ]; then
		on_it systemctl --no-pager --lines=0 status promflow.service promflow.socket >&2 || true
		on_it journalctl --no-pager --lines=20 --unit=promflow >&2 || true
	fi
	exit 1
}

# on_it COMMAND... runs it on the clean machine, as its root.
on_it() {
	nsenter --target "$first" --all --root="/proc/$first/root" --wd="/proc/$first/root/root" env --ignore-environment \
		HOME=/root PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive RELEASE=http://10.9.0.2:8000 "$@"
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

architecture=$(go env GOARCH)
package=promflow-linux-$architecture

# The clean machine takes time, but little of this one.
release=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
debootstrap --variant=minbase --include=systemd,systemd-sysv,curl,iproute2,rpm "$release" "$root" >"$scratch/debootstrap" &
debootstrap=$!
background+=("$debootstrap")

echo "--- The packages, twice"
.release/packages/build.sh
mkdir "$scratch/release" "$scratch/older"
cp dist/"$package"{,.deb,.rpm} "$scratch/release/"
VERSION=0.0.1 .release/packages/build.sh >"$scratch/output"
cp dist/"$package".{deb,rpm} "$scratch/older/"
rm dist/"$package"{,.deb,.rpm}
.release/packages/build.sh >"$scratch/output"
for each in "$scratch"/release/*; do
	cmp "$each" "dist/${each##*/}"
done
(cd "$scratch/release" && sha256sum -- *)

echo "--- lintian and rpmlint"
lintian --fail-on=warning,error "$scratch/release/$package.deb"
# Not as root, and without absolute names: cpio would write to this machine's /usr/bin.
mkdir "$scratch/bin"
printf '#!/bin/sh\nexec %s --no-absolute-filenames "$@"\n' "$(command -v cpio)" >"$scratch/bin/cpio"
chmod a+x "$scratch/bin/cpio"
cp .release/packages/rpmlint.toml "$scratch/bin/"
chmod a+rx "$scratch" "$scratch/bin" "$scratch/release"
chmod a+r "$scratch"/*/*
HOME=$scratch PATH=$scratch/bin:$PATH setpriv --reuid=65534 --regid=65534 --clear-groups \
	rpmlint --config="$scratch/bin/rpmlint.toml" "$scratch/release/$package.rpm" | tee "$scratch/output"
grep -q '; 0 errors, 0 warnings' "$scratch/output" || fail "rpmlint has something to say"

echo "--- A clean machine"
wait $debootstrap || fail "debootstrap: $(tail -n 5 "$scratch/debootstrap")"
echo "127.0.0.1 localhost" >"$root/etc/hosts" # as Debian's installer has it
# What its user does in the editor.
cat >"$root/usr/local/bin/editor" <<'END'
#!/bin/sh
exec sed -i 's|^PROMFLOW_MONITOR_SUBNETS=.*|PROMFLOW_MONITOR_SUBNETS=10.9.0.0/24|' "$1"
END
chmod +x "$root/usr/local/bin/editor"
unshare --pid --fork --kill-child --mount --uts --ipc --net --cgroup .release/packages/boot.sh "$root" >"$scratch/console" 2>&1 &
unshared=$!
background+=("$unshared")
booted() { first=$(pgrep --parent $unshared --exact systemd) && on_it test -S /run/systemd/private; }
within 20 booted || fail "systemd does not start: $(cat "$scratch/console")"
on_it systemctl is-system-running --wait || fail "$(on_it systemctl --failed)"
on_it systemctl --version | head -n 1

# Its eth0 has a neighbour, from which it downloads.
ip netns add $peer
ip -n $peer link add eth0 type veth peer name eth0 netns "$first"
ip -n $peer address add 10.9.0.2/24 dev eth0
ip -n $peer link set eth0 up
on_it ip address add 10.9.0.1/24 dev eth0
on_it ip link set eth0 up
nsenter --net=/run/netns/$peer python3 -m http.server --directory="$scratch/release" 8000 >"$scratch/downloads" 2>&1 &
background+=($!)
within 10 on_it curl -sfo /dev/null http://10.9.0.2:8000 || fail "no downloads: $(cat "$scratch/downloads")"

# commands FILE HEADING gives those of the first code block under a heading.
commands() {
	awk -v heading="$2" '
		/^#/ { here = $0 ~ "^#+ " heading "$" }
		here && /^```/ { if (inside) exit; inside = 1; next }
		inside
	' "$1" | sed "s/amd64/$architecture/g" | tee "$scratch/commands"
	[ -s "$scratch/commands" ] || fail "$1 has no commands below $2"
}

ping_it() { ip netns exec $peer ping -q -c 5 -i 0.01 -s 1000 10.9.0.1 >/dev/null; }
page() { on_it curl -sf http://localhost:9088/metrics; }
total() { page | sed -n 's/^promflow_receive_bytes_total{ip="10.9.0.1"} //p'; }
captures() { page | grep -q "^promflow_capture_up{backend=\"$1\",interface=\"eth0\"} 1$"; }
has_counted() { page | grep -q "^promflow_receive_bytes_total{ip=\"10.9.0.1\"} $1$"; }

# counts BACKEND waits until that captures, and has it count pings to the byte: 5 of 1028 bytes and 20 of IP.
counts() {
	local before
	within 20 captures "$1" || fail "$1 does not capture"
	before=$(total)
	ping_it
	within 10 has_counted $((${before:-0} + 5140)) || fail "it does not count 5140 bytes on top of ${before:-0}: $(page | grep ^promflow_)"
	echo "    $1 counts to the byte"
}

# goes_on TOTAL waits until it captures, with a total as it was before.
goes_on() {
	within 20 captures ebpf || fail "ebpf does not capture"
	[ "$(total)" = "$1" ] || fail "the total was $1, and is $(total)"
}

# running gives the process, as this machine counts it.
running() { pgrep --ns "$first" --nslist pid --exact promflow; }

echo "--- The first minute, with the program alone"
commands README.md "Quick start"
begin=$(date +%s%N)
# The last command runs until it is told to end, as in a terminal.
on_it sh -euc "$(sed '$s/^/exec /' "$scratch/commands")" >"$scratch/output" 2>&1 &
program=$!
background+=("$program")
within 20 captures ebpf || fail "nothing is captured: $(cat "$scratch/output")"
ping_it
within 10 on_it sh -c "curl -s http://localhost:9088/metrics | grep '^promflow_receive_bytes_total{'" || fail "there is no metric: $(cat "$scratch/output")"
echo "    after $((($(date +%s%N) - begin) / 1000000)) ms"
kill -TERM "$(running)"
wait $program || fail "it ends with status $?: $(cat "$scratch/output")"
rm "$root/root/promflow"

# files lists what is on the machine's disk, without what package managers and logs grow by.
files() {
	(cd "$root" && find . -xdev \( -path ./root -o -path ./tmp -o -path ./var/cache -o -path ./var/log -o -path ./var/lib/apt \
		-o -path ./var/lib/dpkg -o -path ./var/lib/rpm \) -prune -o -print | sort)
}
mkdir -p "$root/usr/share/licenses" # as where packages are rpm's
files >"$scratch/before"

# leaves_nothing fails if a file is there that was not before.
leaves_nothing() {
	files >"$scratch/after"
	diff "$scratch/before" "$scratch/after" >"$scratch/output" || fail "it leaves something: $(cat "$scratch/output")"
	if running; then fail "it still runs"; fi
}

echo "--- The first minute, with the package"
commands README.md "As a service"
(while sleep 0.2; do ping_it; done) 2>/dev/null & # something has to move by the time of the last command
pings=$!
background+=("$pings")
begin=$(date +%s%N)
on_it sh -euc "$(cat "$scratch/commands")" 2>&1 | tee "$scratch/output"
echo "    after $((($(date +%s%N) - begin) / 1000000)) ms"
grep -q '^promflow_receive_bytes_total{ip="10.9.0.1"} [1-9]' "$scratch/output" || fail "there is no metric"
kill $pings
wait $pings 2>/dev/null || true

echo "--- The unit"
on_it systemd-analyze verify --man=no promflow.service promflow.socket
exposure=$(on_it systemd-analyze security --no-pager promflow.service | sed -n 's/.*Overall exposure level for promflow.service: \([0-9.]*\).*/\1/p')
echo "    exposure, as systemd-analyze security has it: $exposure"
grep -qF "exposure of $exposure," examples/systemd/README.md || fail "the README has another exposure"
counts ebpf
status=$(cat "/proc/$(running)/status")
for each in 'Uid:.*6[1-5][0-9][0-9][0-9]' 'Cap(Inh|Prm|Eff|Amb):.0+' 'NoNewPrivs:.1' 'Seccomp:.2'; do
	grep -qE "^$each$" <<<"$status" || fail "$each is not so: $status"
done

# with SETTING... has the unit say that, too, until it is called anew.
with() {
	on_it mkdir -p /run/systemd/system/promflow.service.d
	printf '%s\n' '[Service]' "$@" | on_it tee /run/systemd/system/promflow.service.d/test.conf >/dev/null
	on_it systemctl daemon-reload
	on_it systemctl restart promflow
}

echo "--- The history"
kept=$root/var/lib/private/promflow
uid=$(sed -n 's/^Uid:\t\([0-9]*\).*/\1/p' <<<"$status")
[ "$(stat --format='%a %u' "$kept" "$kept/history.db")" = "700 $uid"$'\n'"600 $uid" ] || fail "it is not the service's alone: $(ls -la "$kept")"
before=$(total)
on_it systemctl restart promflow
goes_on "$before"
counts ebpf
before=$(total)
usage() { on_it promflow usage --by=ip --period=24h --output=csv "$@"; }
says() { usage "$@" | tee "$scratch/output" | grep -q "^10\.9\.0\.1,.*,$before,[0-9]*$" || fail "the total is $before, and usage says $(cat "$scratch/output")"; }
says
echo PROMFLOW_DATA_DIR= >>"$root/etc/default/promflow"
on_it systemctl restart promflow
goes_on ""
if usage 2>"$scratch/errors"; then fail "what is turned off answers"; fi
on_it systemctl stop promflow
sed -i '$d' "$root/etc/default/promflow"
says --data-dir=/var/lib/promflow
echo "    goes on, can be asked and turned off"
# On another disk.
on_it mount -t tmpfs tmpfs /var/lib/private/promflow
on_it systemctl start promflow
counts ebpf
on_it systemctl stop promflow
on_it test -s /var/lib/private/promflow/history.db || fail "it is not on the other disk"
on_it umount /var/lib/private/promflow
on_it systemctl start promflow
goes_on "$before"

echo "--- Without CAP_BPF"
with CapabilityBoundingSet=~CAP_BPF AmbientCapabilities=~CAP_BPF
counts afpacket

echo "--- The watchdog"
with WatchdogSec=2s RestartSec=100ms
counts ebpf
kill -STOP "$(running)"
restarted() { [ "$(on_it systemctl show --property=NRestarts --value promflow)" -gt 0 ]; }
within 30 restarted || fail "what hangs is not started again"
counts ebpf

echo "--- A reload"
subnets() { on_it mkdir -p /etc/promflow && on_it tee /etc/promflow/subnets <<<"$1" >/dev/null; }
monitors() { page | grep -q "^promflow_monitored_subnets{.*subnet=\"$1\"} 1$"; }
subnets 10.9.0.0/28
with ExecStart= "ExecStart=/usr/bin/promflow --monitor-subnets=@/etc/promflow/subnets"
counts ebpf
before=$(running)
subnets 10.9.0.0/24
on_it systemctl reload promflow || fail "it does not reload"
within 10 monitors 10.9.0.0/24 || fail "it monitors $(page | grep ^promflow_monitored)"
counts ebpf
[ "$(running)" = "$before" ] || fail "it was started again"
on_it rm -r /etc/promflow

echo "--- The socket"
with
on_it systemctl stop promflow
on_it systemctl start promflow.socket
counts ebpf # the first scrape starts it
before=$(total)
on_it systemctl stop promflow.socket promflow

edited() { grep -qx PROMFLOW_MONITOR_SUBNETS=10.9.0.0/24 "$root/etc/default/promflow"; }

echo "--- dpkg"
on_it apt-get -qq remove promflow >"$scratch/output"
edited || fail "the file that was edited is gone"
[ -s "$kept/history.db" ] || fail "the history is gone"
mkdir "$root/root/older"
cp "$scratch"/older/* "$root/root/older/"
cp "$scratch/release/$package.rpm" "$root/root/"
on_it dpkg --install older/"$package".deb >"$scratch/output"
edited || fail "the file that was edited is another"
on_it systemctl enable --quiet --now promflow.socket promflow.service || fail "it does not start"
goes_on "$before"
counts ebpf
before=$(total) older=$(running)
on_it apt-get -qq install ./"$package".deb >"$scratch/output"
edited || fail "the file that was edited is another"
goes_on "$before"
counts ebpf
[ "$(running)" != "$older" ] || fail "the older version still runs"
on_it apt-get -qq purge promflow >"$scratch/output"
leaves_nothing
echo "    upgraded, and gone without a trace"

echo "--- rpm"
in_rpm() { on_it rpm --force-debian --nodeps "$@"; }
in_rpm --install older/"$package".rpm
on_it editor /etc/default/promflow
on_it systemctl enable --quiet --now promflow.service || fail "it does not start"
counts ebpf
before=$(total) older=$(running)
in_rpm --upgrade "$package.rpm"
edited || fail "the file that was edited is another"
goes_on "$before"
counts ebpf
[ "$(running)" != "$older" ] || fail "the older version still runs"
in_rpm --erase promflow
[ -s "$kept/history.db" ] || fail "the history is gone"
on_it rm -r /var/lib/promflow /var/lib/private/promflow
rm -f "$root/etc/default/promflow.rpmsave" # which rpm keeps of a file that was edited
leaves_nothing
echo "    upgraded, and gone without a trace"

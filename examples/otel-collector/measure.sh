#!/usr/bin/env bash
# Measures what a series takes: of a push, and of the collector's memory. As root, with promflow and otelcol-promflow in PATH,
# and python3. Everything happens in a network namespace of its own.
#
#	./measure.sh 4 20000 none    # 20,000 IPv4 addresses, pushed as they are
#	./measure.sh 6 20000 gzip    # 20,000 IPv6 addresses, pushed with gzip
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
[ "${inside:-}" = yes ] || inside=yes exec unshare --net ./measure.sh "$@"
family=$1 addresses=$2 compression=$3

ip link set lo up
ip address add 10.0.0.1/32 dev lo # the collector's own: what it receives is what is pushed
ip route add local 192.168.0.0/16 dev lo
ip route add local 2001:db8::/32 dev lo
trap 'kill $(jobs -p) && wait' EXIT

otelcol-promflow --config=collector.yaml --config='yaml:receivers::otlp::protocols::grpc::endpoint: 10.0.0.1:4317' 2>/dev/null &
collector=$!
until curl -sf -o /dev/null localhost:13133; do sleep 0.1; done
OTEL_EXPORTER_OTLP_COMPRESSION=$compression promflow --interface=lo --monitor-subnets=192.168.0.0/16,2001:db8::/32,10.0.0.1/32 \
	--otlp-endpoint=10.0.0.1:4317 --otlp-interval=2s 2>/dev/null &
until curl -sf -o /dev/null localhost:9088/metrics; do sleep 0.1; done

pushed() { curl -sf localhost:9088/metrics | awk '/^promflow_receive_bytes_total{ip="10.0.0.1"}/ { printf "%d", $2 }'; }
resident() { awk '/^VmRSS/ { print $2 * 1024 }' "/proc/$collector/status"; }
busy() { awk '{ print ($14 + $15) * 10000 }' "/proc/$collector/stat"; } # microseconds of processor time
sleep 5
resident_before=$(resident)

# Every address receives one datagram of any length.
python3 - "$family" "$addresses" <<'END'
import ipaddress, random, socket, sys
family, addresses = sys.argv[1], int(sys.argv[2])
kind = socket.AF_INET6 if family == "6" else socket.AF_INET
s, nobody = socket.socket(kind, socket.SOCK_DGRAM), socket.socket(kind, socket.SOCK_DGRAM)
nobody.bind(("", 9))  # else the kernel would answer that nobody is there
for i in range(addresses):
    if family == "6":
        to = ipaddress.IPv6Address((0x20010DB8 << 96) + random.getrandbits(96))
    else:
        to = ipaddress.IPv4Address("192.168.0.0") + i
    s.sendto(bytes(random.randrange(60000)), (str(to), 9))
END
sleep 5
series=$(curl -sf localhost:8889/metrics | grep -c '^promflow_') # a page takes memory, too

pushed_before=$(pushed) busy_before=$(busy)
sleep 20 # ten pushes
bytes=$((($(pushed) - pushed_before) / 10))
echo "IPv$family, $compression: $series series; $((bytes / series)) bytes a series in each push of $bytes bytes;" \
	"in the collector $((($(resident) - resident_before) / series)) bytes of memory a series" \
	"and $((($(busy) - busy_before) * 100 / series)) ns of a processor for each in a push"

#!/usr/bin/env bash
# Measures what a collector and a store take for many promflows. As root, with otelcol-promflow and victoria-metrics or prometheus in PATH,
# curl and openssl. Everything happens in a network namespace of its own.
#
# The collector is a gateway as the README has it, with TLS and a token. With WAL=yes what it sends waits in a file.
#
#	measure.sh victoria-metrics 1000 50 60 180    # 1,000 promflows of 50 addresses push every 60 s, for 180 s
#	measure.sh prometheus 1000 50 60 180
#	measure.sh disk 10 50 60 4320                 # three days of 1,000 series: what they take on disk in both stores
set -euo pipefail
[ "${inside:-}" = yes ] || inside=yes exec unshare --net "$0" "$@"
cd "$(dirname "${BASH_SOURCE[0]}")/../../examples/otel-collector"
what=$1 agents=$2 addresses=$3 interval=$4 length=$5
dir=$(mktemp -d)
declare -A pids empty before
trap 'kill $(jobs -p) 2>/dev/null; wait; rm -rf "$dir"' EXIT
ip link set lo up
go build -o "$dir/fleet" ../../.ci/fleet
fleet() { exec "$dir/fleet" -endpoint=https://localhost:4317 -agents="$agents" -addresses="$addresses" -interval="$interval"s "$@"; }

answers() { until curl -sf -o /dev/null "$1"; do sleep 0.1; done; }
victoria_metrics() {
	victoria-metrics -httpListenAddr=127.0.0.1:9090 -storageDataPath="$dir/victoria" -retentionPeriod=2y -search.latencyOffset=0s \
		>"$dir/store.log" 2>&1 &
	pids[store]=$!
	answers localhost:9090/health
}
# metric EXPRESSION adds up metrics of the store whose names begin so.
metric() { curl -sf localhost:9090/metrics | awk -v name="^$1" '$0 ~ name { sum += $2 } END { printf "%d", sum }'; }

if [ "$what" = disk ]; then
	(fleet -write="$length" >"$dir/samples")
	series=$((agents * addresses * 2)) samples=$((agents * addresses * 2 * length))
	victoria_metrics
	curl -sf -T "$dir/samples" localhost:9090/api/v1/import/prometheus
	curl -sf localhost:9090/internal/force_flush
	curl -sf localhost:9090/internal/force_merge
	until [ "$(metric 'vm_active_force_merges')" = 0 ] && [ "$(metric 'vm_active_merges')" = 0 ]; do sleep 1; done
	[ "$(metric 'vm_rows[{]type="storage/')" = $samples ]
	awk -v samples=$samples -v series=$series -v data="$(metric 'vm_data_size_bytes[{]type="storage/')" -v indexed="$(metric 'vm_data_size_bytes[{]type="indexdb/')" \
		'BEGIN { printf "VictoriaMetrics: %.2f bytes a sample and %.0f a series in the index\n", data / samples, indexed / series }'
	promtool tsdb create-blocks-from --max-block-duration=72h openmetrics "$dir/samples" "$dir/prometheus" >/dev/null
	cat "$dir"/prometheus/*/chunks/* | wc -c | awk -v samples=$samples '{ printf "Prometheus: %.2f bytes a sample", $1 / samples }'
	cat "$dir"/prometheus/*/index | wc -c | awk -v samples=$samples '{ printf " and %.2f in indexes\n", $1 / samples }'
	exit
fi

if [ "$what" = prometheus ]; then
	prometheus --config.file=<(echo '{}') --storage.tsdb.path="$dir/prometheus" --web.enable-remote-write-receiver >"$dir/store.log" 2>&1 &
	pids[store]=$!
	answers localhost:9090/-/ready
else
	victoria_metrics
fi
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=localhost -addext subjectAltName=DNS:localhost \
	-keyout "$dir/key.pem" -out "$dir/cert.pem" 2>/dev/null
echo sesame >"$dir/tokens"
export OTEL_EXPORTER_OTLP_CERTIFICATE=$dir/cert.pem OTEL_EXPORTER_OTLP_HEADERS=authorization=Bearer%20sesame
export COLLECTOR_CERT_FILE=$dir/cert.pem COLLECTOR_KEY_FILE=$dir/key.pem COLLECTOR_TOKEN_FILE=$dir/tokens
export REMOTE_WRITE_URL=http://localhost:9090/api/v1/write REMOTE_WRITE_WAL=$dir/wal
otelcol-promflow --config=collector.yaml --config=secure.yaml --config=remote-write.yaml ${WAL:+--config=wal.yaml} 2>"$dir/collector.log" &
pids[collector]=$!
answers localhost:13133

resident() { awk '/^VmRSS/ { print $2 * 1024 }' "/proc/$1/status"; }
busy() { awk '{ print ($14 + $15) * 10000 }' "/proc/$1/stat"; } # microseconds of processor time
points() { curl -sf localhost:8888/metrics | awk '/^otelcol_receiver_accepted_metric_points/ { sum += $2 } END { printf "%d", sum }'; }
stored() { metric '(vm_rows_inserted_total.*promremotewrite|prometheus_tsdb_head_samples_appended_total.*float)'; }
sleep 5
for each in collector store; do empty[$each]=$(resident "${pids[$each]}"); done
touch "$dir/fleet.log"
(fleet >"$dir/fleet.log" 2>&1) &
until grep -q 'all push' "$dir/fleet.log"; do sleep 1; done
sleep "$interval"
series=$(metric '(vm_new_timeseries_created_total|prometheus_tsdb_head_series) ')
points_before=$(points)
for each in collector store; do before[$each]=$(busy "${pids[$each]}"); done
sleep "$length"
points=$(($(points) - points_before))
echo "$series series of $agents promflows; $points samples in $length s; $(($(points) - $(stored))) on the way to the store"
for each in collector store; do
	awk -v each="$each" -v busy=$(($(busy "${pids[$each]}") - before[$each])) -v points=$points -v seconds="$length" -v series="$series" -v agents="$agents" \
		-v empty="${empty[$each]}" -v now="$(resident "${pids[$each]}")" 'BEGIN {
		printf "%s: %.2f us a sample, %.1f %% of a processor; %.0f MB resident, %.0f when empty: %.2f kB a series, %.0f kB a promflow\n",
			each, busy / points, busy / seconds / 1e4, now / 1e6, empty / 1e6, (now - empty) / series / 1e3, (now - empty) / agents / 1e3 }'
done
grep 'level=' "$dir/fleet.log" | cut -d ' ' -f 2- | sort | uniq -c | tail -n 3 || true
grep -iE '[[:space:]](warn|error)[[:space:]]' "$dir/collector.log" | cut -c1-200 | sort | uniq -c | tail -n 3 || true

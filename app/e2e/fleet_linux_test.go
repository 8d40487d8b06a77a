package e2e

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"promflow/capture/nettest"
)

// member is one promflow of many, on an interface of its own.
type member struct {
	*program
	sender *nettest.Sender
	sent   map[string]counts
}

// send sends between hosts that every member has, but as many bytes as with no other.
func (m *member) send(number int) {
	for i := range 5 {
		from, to := netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)})
		size := 100 + 25*number + i
		m.sender.Send(nettest.UDP(from, to, size))
		c := m.sent[from.String()]
		c.transmitBytes += int64(size)
		m.sent[from.String()] = c
		c = m.sent[to.String()]
		c.receiveBytes += int64(size)
		m.sent[to.String()] = c
	}
}

// TestFleet has many promflows push to one collector, which Prometheus scrapes, both with the configuration of the example.
func TestFleet(t *testing.T) {
	t.Parallel()
	needCollector(t)
	nettest.Need(t, "prometheus")
	here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
	startCollector(t, here, nil, "collector.yaml")
	var fleet [50]*member
	for i := range fleet {
		device := fmt.Sprint("e", i)
		here.Veth(device, there, device)
		fleet[i] = &member{
			start(t, here, inside(t, here, "--metrics-address=127.0.0.1:0", "--interface="+device, "--monitor-subnets=10.0.0.0/24",
				"--otlp-endpoint=127.0.0.1:4317", "--otlp-interval=1s")),
			nettest.NewSender(t, there, device),
			map[string]counts{},
		}
	}
	for _, m := range fleet {
		m.listening()
	}
	config, err := os.ReadFile(filepath.Join(collectorExample, "prometheus.yml"))
	if err != nil {
		t.Fatal(err)
	}
	prometheus := startPrometheus(t, here, strings.Replace(string(config), "scrape_interval: 10s", "scrape_interval: 1s", 1))

	for range 2 {
		receive, transmit := map[string]float64{}, map[string]float64{}
		for i, m := range fleet {
			m.send(i)
			eventually(t, func() error { return same(hosts(t, m.get("/metrics")), m.sent) })
			for ip, c := range hosts(t, m.get("/metrics")) {
				if c.receiveBytes > 0 {
					receive[m.instance()+" "+ip] = float64(c.receiveBytes)
				}
				if c.transmitBytes > 0 {
					transmit[m.instance()+" "+ip] = float64(c.transmitBytes)
				}
			}
		}
		for metric, want := range map[string]map[string]float64{
			"promflow_receive_bytes_total": receive, "promflow_transmit_bytes_total": transmit,
		} {
			eventually(t, func() error {
				if got := prometheus.query(t, fleet[0].program, metric, "instance", "ip"); !maps.Equal(got, want) {
					return fmt.Errorf("Prometheus has %s %v, want %v", metric, got, want)
				}
				return nil
			})
			sum, by := 0.0, map[string]float64{}
			for series, v := range want {
				instance, _, _ := strings.Cut(series, " ")
				sum, by[instance] = sum+v, by[instance]+v
			}
			if got := prometheus.query(t, fleet[0].program, "sum("+metric+")"); got[""] != sum {
				t.Errorf("the sum of %s is %v, want %v", metric, got[""], sum)
			}
			if got := prometheus.query(t, fleet[0].program, "sum by (instance) ("+metric+")", "instance"); len(by) != len(fleet) || !maps.Equal(got, by) {
				t.Errorf("the sums of %s by instance are %v, want %v", metric, got, by)
			}
		}
	}
}

// fleet pushes to a collector as many promflows do: with promflow's own exporter, a connection for each. What they have counted is made up.
// With -write it prints what a store would get of them in some time, in OpenMetrics. measure.sh, beside it, measures what takes it.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	"promflow/app/live"
	"promflow/capture"
	"promflow/capture/frame"
	"promflow/telemetry"
	"promflow/telemetry/otlp"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	agents := flag.Int("agents", 1000, "promflows")
	addresses := flag.Int("addresses", 50, "addresses of each")
	endpoint := flag.String("endpoint", "127.0.0.1:4317", "the collector's `address`")
	interval := flag.Duration("interval", time.Minute, "between pushes of a promflow")
	write := flag.Int("write", 0, "print so many `samples` of each address, in OpenMetrics, instead of pushing")
	flag.Parse()
	err := func() error {
		fleet := newFleet(*agents, *addresses)
		if *write > 0 {
			return fleet.write(os.Stdout, *write, *interval)
		}
		return fleet.push(ctx, otlp.Config{Endpoint: *endpoint, Interval: *interval})
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, "fleet:", err)
		os.Exit(1)
	}
}

// agent is a promflow that counts nothing.
type agent struct {
	instance string
	random   *rand.Rand
	means    []float64 // bytes that each address receives between readings
	hosts    []telemetry.Host
	counted  capture.OutcomeSize
}

type fleet []*agent

func newFleet(agents, addresses int) (f fleet) {
	for i := range agents {
		a := &agent{instance: fmt.Sprintf("router-%05d.example.net:9088", i), random: rand.New(rand.NewPCG(uint64(i), 0))}
		for host := range addresses {
			a.means = append(a.means, 1e5*math.Exp(2*a.random.NormFloat64())) // a few have most of the traffic
			a.hosts = append(a.hosts, telemetry.Host{Addr: netip.AddrFrom4([4]byte{10, byte(i), byte(host >> 8), byte(host)})})
		}
		f = append(f, a)
	}
	return f
}

// read has the addresses move something: one in five is idle, and the others transmit a tenth of what they receive.
func (a *agent) read() telemetry.Reading {
	for i := range a.hosts {
		if a.random.IntN(5) == 0 && a.hosts[i].ReceiveBytes > 0 {
			continue
		}
		bytes := 1 + int64(a.means[i]*a.random.ExpFloat64())
		a.hosts[i].ReceiveBytes += bytes
		a.hosts[i].TransmitBytes += 1 + bytes/10
		a.counted.Bytes += bytes + bytes/10
		a.counted.Packets += 1 + bytes/1000
	}
	n := int64(len(a.hosts))
	outcomes := [frame.Outcomes]capture.OutcomeSize{frame.Counted: a.counted, frame.NonIP: {Packets: a.counted.Packets / 100, Bytes: a.counted.Bytes / 1000}}
	return telemetry.Reading{
		Hosts: slices.Values(a.hosts), Tracked: n, Limit: 65536, Expiry: true,
		Interfaces: []telemetry.Interface{{Name: "eth0", Backend: "ebpf", Up: true, Outcomes: live.Outcomes(outcomes)}},
		Subnets:    []telemetry.Subnet{{Prefix: "10.0.0.0/8", Network: "10.0.0.0/8"}},
	}
}

// push pushes until ctx ends. The pushes of the fleet are spread over the interval, as are those of machines that started at any time.
func (f fleet) push(ctx context.Context, config otlp.Config) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	var ends sync.WaitGroup
	defer ends.Wait()
	for _, a := range f {
		reader, err := otlp.Prepare(config, log)
		if err != nil {
			return err
		}
		provider := telemetry.New(a.instance, log, reader(telemetry.NewSource(a.read, false)))
		ends.Go(func() {
			<-ctx.Done()
			last, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			_ = provider.Shutdown(last) // the log says it
		})
		select {
		case <-ctx.Done():
		case <-time.After(config.Interval / time.Duration(len(f))):
		}
	}
	fmt.Println("all push")
	<-ctx.Done()
	return nil
}

// write prints samples of the series of addresses, the last one of now.
func (f fleet) write(to io.Writer, samples int, interval time.Duration) error {
	out := bufio.NewWriter(to)
	end := time.Now()
	for direction, of := range map[string]func(telemetry.Host) int64{
		"receive":  func(h telemetry.Host) int64 { return h.ReceiveBytes },
		"transmit": func(h telemetry.Host) int64 { return h.TransmitBytes },
	} {
		fmt.Fprintf(out, "# TYPE promflow_%s_bytes counter\n", direction)
		for _, a := range newFleet(len(f), len(f[0].hosts)) {
			totals := make([][]int64, len(a.hosts))
			for range samples {
				for i, h := range slices.Collect(a.read().Hosts) {
					totals[i] = append(totals[i], of(h))
				}
			}
			for i, h := range a.hosts {
				for n, total := range totals[i] {
					at := end.Add(-time.Duration(samples-1-n) * interval)
					fmt.Fprintf(out, "promflow_%s_bytes_total{instance=%q,ip=%q,job=\"promflow\"} %d %.3f\n", direction, a.instance, h.Addr, total, float64(at.UnixMilli())/1000)
				}
			}
		}
	}
	fmt.Fprintln(out, "# EOF")
	return out.Flush()
}

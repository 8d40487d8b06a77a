package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"promflow/capture/nettest"
)

// asPromflow is set where this program is to take promflow's place.
const asPromflow = "SOAK_TEST_AS_PROMFLOW"

func TestMain(m *testing.M) {
	if os.Getenv(asPromflow) == "" {
		os.Exit(m.Run())
	}
	http.HandleFunc("/-/ready", func(http.ResponseWriter, *http.Request) {})
	http.HandleFunc("/metrics", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, `promflow_transmit_bytes_total{ip="10.0.0.1"} 1`)
	})
	fmt.Fprintln(os.Stderr, http.ListenAndServe(address, nil))
	os.Exit(1)
}

// try runs what the flags say, and logs what came of it.
func try(t *testing.T, args ...string) error {
	t.Helper()
	nettest.NeedRoot(t)
	nettest.Need(t, "ip", "ethtool")
	files := t.TempDir()
	t.Setenv("TMPDIR", files)
	o, err := parse(append(args, "-collector-config=../../examples/otel-collector/collector.yaml"), t.Output())
	if err != nil {
		t.Fatal(err)
	}
	o.progress = t.Output()
	var out strings.Builder
	err = run(t.Context(), o, &out)
	if errors.Is(err, unix.EINVAL) {
		nettest.Lacks(t, "Linux 5.18 for live XDP frames")
	}
	t.Log(out.String())
	if left, _ := os.ReadDir(files); len(left) > 0 {
		t.Errorf("the soak leaves %s", left[0].Name())
	}
	return err
}

// TestSpoofedFlood floods each backend for some seconds. Rates mean nothing while other tests run, so none is asked for here. The
// table is small, as its pages are parsed, which takes long with the race detector.
func TestSpoofedFlood(t *testing.T) {
	if err := try(t, "-spoof", "-max-ips=8192", "-rounds=1", "-frames=1000000", "-keeps-rate=0"); err != nil {
		t.Error(err)
	}
}

// TestShortSoak is all of a soak, but at a low rate, and so short that memory has not reached its size. Other tests may keep the
// sender waiting for a second or two: that must not expire those who are always there.
func TestShortSoak(t *testing.T) {
	if err := try(t, "-duration=20s", "-rate=20000", "-expire-after=4s", "-collector=none", "-grows=1"); err != nil {
		t.Error(err)
	}
}

func TestBrokenPromises(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(asPromflow, "yes")
	for _, c := range []struct {
		name, flags string
		want        []string
	}{
		{"soak", "-duration=2s -rate=2000 -scrape=100ms -expire-after=1s -collector=none -grows=1", []string{
			"0 are counted by outcome and 0 dropped", "the page has 0 and 1", "448 of 448 constant addresses are wrong", "0 addresses were expired and 0 evicted",
		}},
		{"flood", "-spoof -rounds=1 -frames=1000 -keeps-rate=2", []string{
			"0 are counted by outcome and 0 dropped", "254 of 254 constant addresses are wrong", "of the normal rate, want 2.000",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := try(t, append(strings.Fields(c.flags), "-promflow="+program, "-capture=none")...)
			if err == nil {
				t.Fatal("it keeps all promises")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not in %v", want, err)
				}
			}
		})
	}
}

func TestGoingBackwards(t *testing.T) {
	host := func(receive int64) map[string]tally {
		return map[string]tally{"10.0.0.1": {receive, 1}, "other": {1, 5}}
	}
	for _, c := range []struct {
		name        string
		before, now page
		broken      int
	}{
		{"all as before", page{hosts: host(5)}, page{hosts: host(5)}, 0},
		{"a constant address and so all", page{hosts: host(5)}, page{hosts: host(4)}, 2},
		{"a constant address, others have it", page{hosts: host(5)}, page{hosts: map[string]tally{"other": {6, 6}}}, 1},
		{"what has expired", page{hosts: host(5), expired: tally{0, 1}}, page{hosts: host(5)}, 1},
		{"the others, expired ones have it", page{hosts: host(5)}, page{hosts: map[string]tally{"10.0.0.1": {5, 1}}, expired: tally{1, 5}}, 1},
		{"packets", page{packets: 2}, page{packets: 1}, 1},
		{"more than there is room for", page{}, page{tracked: 5}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &promises{progress: t.Output()}
			w := &watch{options: options{maxIPs: 4}, promises: p, constant: map[string]bool{"10.0.0.1": true}}
			if w.compare(&c.now, &c.before); len(p.broken) != c.broken {
				t.Errorf("%d promises are broken, want %d", len(p.broken), c.broken)
			}
		})
	}
}

func TestGrowth(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		name   string
		end    int64
		broken int
	}{{"none", 100 * mib, 0}, {"little", 105 * mib, 0}, {"much", 106 * mib, 1}, {"shrinks", 50 * mib, 0}} {
		t.Run(c.name, func(t *testing.T) {
			o, err := parse([]string{"-duration=100s"}, t.Output())
			if err != nil {
				t.Fatal(err)
			}
			w := &watch{options: o}
			for i := range int64(100) {
				switch {
				case i < 50:
					w.resident = append(w.resident, i*mib)
				case i < 75:
					w.resident = append(w.resident, (90+i%2*20)*mib)
				default:
					w.resident = append(w.resident, c.end)
				}
			}
			p := &promises{progress: t.Output()}
			early, end := w.flat(p)
			if early != 100*mib || end != c.end || len(p.broken) != c.broken {
				t.Errorf("it has %d MiB early, %d at the end, and %d broken promises", early/mib, end/mib, len(p.broken))
			}
		})
	}
}

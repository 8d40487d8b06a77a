package watch

import (
	"errors"
	"maps"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestPolling lists what there is, second by second, and says who is captured then: how often a source was attached for each name.
func TestPolling(t *testing.T) {
	up := func(index int, name string) net.Interface {
		return net.Interface{Index: index, Name: name, Flags: net.FlagUp}
	}
	down := func(index int, name string) net.Interface { return net.Interface{Index: index, Name: name} }
	type second struct {
		there    []net.Interface
		detached int            // the device that the kernel has taken a source off
		captured map[string]int // by name, its device
		attached map[string]int // by name, how often in all; nil where that depends on who is told of first
	}
	for _, c := range []struct {
		name, names string
		seconds     []second
	}{
		{"nothing changes", "d*", []second{
			{there: []net.Interface{up(1, "d1"), up(2, "e1")}, captured: map[string]int{"d1": 1}, attached: map[string]int{"d1": 1}},
			{there: []net.Interface{up(1, "d1"), up(2, "e1")}, captured: map[string]int{"d1": 1}, attached: map[string]int{"d1": 1}},
		}},
		{"one comes, goes and comes back", "d1", []second{
			{attached: map[string]int{"d1": 0}},
			{there: []net.Interface{up(1, "d1")}, captured: map[string]int{"d1": 1}, attached: map[string]int{"d1": 1}},
			{attached: map[string]int{"d1": 1}},
			{there: []net.Interface{up(3, "d1")}, captured: map[string]int{"d1": 3}, attached: map[string]int{"d1": 2}},
		}},
		{"one is down for a while", "d*", []second{
			{there: []net.Interface{up(1, "d1")}, captured: map[string]int{"d1": 1}, attached: map[string]int{"d1": 1}},
			{there: []net.Interface{down(1, "d1")}, captured: map[string]int{"d1": 1}, attached: map[string]int{"d1": 1}},
			{there: []net.Interface{up(1, "d1")}, captured: map[string]int{"d1": 1}, attached: map[string]int{"d1": 1}},
		}},
		{"one is made anew within a second", "d*", []second{
			{there: []net.Interface{up(1, "d1")}, captured: map[string]int{"d1": 1}, attached: map[string]int{"d1": 1}},
			{there: []net.Interface{up(1, "d1")}, detached: 1, captured: map[string]int{"d1": 1}, attached: map[string]int{"d1": 2}},
		}},
		{"two change names", "d1,d2", []second{
			{there: []net.Interface{up(1, "d1"), up(2, "d2")}, captured: map[string]int{"d1": 1, "d2": 2}, attached: map[string]int{"d1": 1, "d2": 1}},
			{there: []net.Interface{up(1, "d2"), up(2, "d1")}, captured: map[string]int{"d1": 2, "d2": 1}},
		}},
		{"a name goes on to another device", "d*", []second{
			{there: []net.Interface{up(1, "d1"), up(2, "d2")}, captured: map[string]int{"d1": 1, "d2": 2}, attached: map[string]int{"d1": 1, "d2": 1}},
			{there: []net.Interface{up(2, "d1")}, captured: map[string]int{"d1": 2}, attached: map[string]int{"d1": 1, "d2": 1}},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, all, _ := watchLinks(t, c.names)
				there := c.seconds[0].there
				p := poll(func() ([]net.Interface, error) {
					w.mu.Lock()
					defer w.mu.Unlock()
					return there, nil
				})
				devices, err := p.list()
				if err != nil {
					t.Fatal(err)
				}
				w.hearAll(slices.Collect(maps.Values(devices))...)
				go func() {
					for {
						select {
						case <-t.Context().Done():
							return
						case u := <-p.updates:
							all, _ := p.newsOf(u)
							w.take(all...)
						}
					}
				}()
				for n, s := range c.seconds {
					w.mu.Lock()
					there = s.there
					if s.detached != 0 {
						delete(all.on, s.detached)
					}
					w.mu.Unlock()
					time.Sleep(pollEvery)
					synctest.Wait()
					captured, attached := map[string]int{}, map[string]int{}
					for index, l := range all.on {
						captured[l.name] = index
					}
					for _, s := range w.Statuses() {
						attached[s.Interface] = int(s.Dropped)
					}
					if !maps.Equal(captured, s.captured) {
						t.Errorf("second %d: captured are %v, want %v", n, captured, s.captured)
					}
					if s.attached != nil && !maps.Equal(attached, s.attached) {
						t.Errorf("second %d: attached were %v, want %v", n, attached, s.attached)
					}
				}
			})
		})
	}
}

func TestPollingFails(t *testing.T) {
	fails := errors.New("no memory")
	p := poll(func() ([]net.Interface, error) { return nil, fails })
	if _, err := p.list(); !errors.Is(err, fails) || !strings.Contains(err.Error(), "listing") {
		t.Errorf("the error of a list is %v", err)
	}
	if all, err := p.newsOf(time.Now()); len(all) > 0 || !errors.Is(err, fails) {
		t.Errorf("the news are %+v, %v", all, err)
	}
}

package watch

import (
	"fmt"
	"maps"
	"net"
	"time"

	"promflow/capture"
)

// pollEvery is the interval at which devices are listed.
const pollEvery = time.Second

// polling is the subscription for systems that do not report devices: it lists them at intervals. The channel is closed after an error.
type polling struct {
	first   map[int]device
	updates chan update
	done    chan struct{}
}

// update is a report, or the error of a list.
type update struct {
	news
	err error
}

// poll lists the devices, and starts to list them at intervals.
func poll(interfaces func() ([]net.Interface, error)) (*polling, error) {
	now := func() (map[int]device, error) {
		all, err := interfaces()
		if err != nil {
			return nil, fmt.Errorf("listing the network interfaces: %w", err)
		}
		devices := map[int]device{}
		for _, i := range all {
			devices[i.Index] = device{
				Interface: capture.Interface{
					Name: i.Name, Index: i.Index,
					Ethernet: len(i.HardwareAddr) > 0, // a guess: sources find out themselves
					Loopback: i.Flags&net.FlagLoopback != 0,
				},
				up: i.Flags&net.FlagUp != 0,
			}
		}
		return devices, nil
	}
	first, err := now()
	if err != nil {
		return nil, err
	}
	p := &polling{first: first, updates: make(chan update), done: make(chan struct{})}
	go p.run(first, now)
	return p, nil
}

// run reports every device at each list: a device may have been made anew with its index and name, and its source knows. It ends after an
// error.
func (p *polling) run(before map[int]device, list func() (map[int]device, error)) {
	defer close(p.updates)
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		select {
		case <-p.done:
			return
		case <-tick.C:
		}
		now, err := list()
		if err != nil {
			p.tell(update{err: err})
			return
		}
		for index, d := range before {
			if _, there := now[index]; !there && !p.tell(update{news: news{device: d, gone: true}}) {
				return
			}
		}
		for _, d := range now {
			if !p.tell(update{news: news{device: d, anew: d.up}}) {
				return
			}
		}
		before = now
	}
}

// tell sends an update. It returns false once the subscription is closed.
func (p *polling) tell(u update) bool {
	select {
	case p.updates <- u:
		return true
	case <-p.done:
		return false
	}
}

// list returns the devices of the first list: updates follow it.
func (p *polling) list() (map[int]device, error) { return maps.Clone(p.first), nil }

func (p *polling) newsOf(u update) (n news, ok bool, err error) { return u.news, u.err == nil, u.err }

// close ends the subscription, and waits for its end.
func (p *polling) close() {
	close(p.done)
	for range p.updates {
	}
}

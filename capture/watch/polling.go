package watch

import (
	"fmt"
	"net"
	"time"

	"promflow/capture"
)

// pollEvery is the interval at which devices are listed.
const pollEvery = time.Second

// polling is the subscription for systems that do not report devices: it lists them at intervals.
type polling struct {
	updates    <-chan time.Time
	interfaces func() ([]net.Interface, error)
	devices    map[int]device // of the last list
}

func poll(interfaces func() ([]net.Interface, error)) *polling {
	return &polling{updates: time.Tick(pollEvery), interfaces: interfaces}
}

// list returns the devices that exist, by index.
func (p *polling) list() (map[int]device, error) {
	all, err := p.interfaces()
	if err != nil {
		return nil, fmt.Errorf("listing the network interfaces: %w", err)
	}
	p.devices = map[int]device{}
	for _, i := range all {
		p.devices[i.Index] = device{
			Interface: capture.Interface{
				Name: i.Name, Index: i.Index,
				Ethernet: len(i.HardwareAddr) > 0, // a guess: sources find out themselves
				Loopback: i.Flags&net.FlagLoopback != 0,
				MTU:      i.MTU,
			},
			up: i.Flags&net.FlagUp != 0,
		}
	}
	return p.devices, nil
}

// newsOf reports every device of another list: a device may have been made anew with its index and name, and its source knows.
func (p *polling) newsOf(time.Time) (all []news, err error) {
	before := p.devices
	now, err := p.list()
	if err != nil {
		return nil, err
	}
	for index, d := range before {
		if _, there := now[index]; !there {
			all = append(all, news{device: d, gone: true})
		}
	}
	for _, d := range now {
		all = append(all, news{device: d, anew: d.up})
	}
	return all, nil
}

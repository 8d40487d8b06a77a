package netflow

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"promflow/capture/flow"
)

// wait has a set of data wait. It copies the data. It returns false if there is no room.
func (d *decoder) wait(w wait) bool {
	cost, most := len(w.data)+waitCost, mostWaiting
	if w.template == nil {
		most /= 2
	}
	if len(d.waits) >= mostWaits || d.waiting+cost > most || !d.limits.Waiting.Take(cost) {
		return false
	}
	d.waiting += cost
	w.data = slices.Clone(w.data)
	d.waits = append(d.waits, w)
	return true
}

// take removes the sets that done returns true for. done must not have others wait.
func (d *decoder) take(done func(*wait) bool) {
	left := d.waits[:0]
	for i := range d.waits {
		w := &d.waits[i]
		if !done(w) {
			left = append(left, *w)
			continue
		}
		cost := len(w.data) + waitCost
		d.waiting -= cost
		d.limits.Waiting.Give(cost)
	}
	clear(d.waits[len(left):])
	d.waits = left
}

// decodeNow decodes a set that has waited, if what it waits for is there.
func (d *decoder) decodeNow(w *wait, to flow.Sink) bool {
	if w.template == nil {
		w.template = w.of.templates[w.id]
	}
	t := w.template
	if t == nil {
		return false
	}
	if t.samples && !w.of.noRates && !d.limits.IgnoreRates {
		if _, lacks := d.survey(w.of, t, w.data); lacks {
			return false
		}
	}
	d.records(w.of, t, w.data, to)
	return true
}

// giveUp ends the wait of some sets.
func (d *decoder) giveUp(to flow.Sink, which func(*wait) bool) {
	d.take(func(w *wait) bool {
		if !which(w) {
			return false
		}
		if w.template == nil {
			to.NoTemplate(1)
		} else {
			w.of.noRates = true
			d.records(w.of, w.template, w.data, to)
		}
		return true
	})
}

func (d *decoder) Tick(now time.Time, to flow.Sink) {
	// Options may have waited, too.
	d.take(func(w *wait) bool { return w.template != nil && w.of.told && d.decodeNow(w, to) })
	d.giveUp(to, func(w *wait) bool { return now.Sub(w.since) >= waitFor })
	for _, of := range d.domains {
		of.told = false
		to.Lost(of.sequence.Lost(now))
		if of.before != nil && now.Sub(of.before.heard) >= keepFor {
			d.drop(of.before, to)
			of.before = nil
		}
	}
}

// Describe names the protocols, and says how many templates there are.
func (d *decoder) Describe() string {
	names := map[uint16]string{5: "NetFlow v5", 9: "NetFlow v9", 10: "IPFIX"}
	var versions []string
	templates := 0
	for _, version := range []uint16{5, 9, 10} {
		found := false
		for _, of := range d.domains {
			if of.version == version {
				found = true
				templates += len(of.templates)
			}
		}
		if found {
			versions = append(versions, names[version])
		}
	}
	text := strings.Join(versions, " and ")
	switch {
	case templates == 1:
		text += ", 1 template"
	case templates > 1 || len(versions) > 0 && versions[len(versions)-1] != names[5]:
		text += fmt.Sprintf(", %d templates", templates)
	}
	if len(d.waits) > 0 {
		text += fmt.Sprintf(", %d sets of data wait for theirs", len(d.waits))
	}
	return text
}

// Close gives back what the decoder has taken.
func (d *decoder) Close() {
	for _, of := range d.domains {
		d.limits.Domains.Give(1)
		if of.before != nil {
			d.limits.Domains.Give(1)
		}
	}
	d.limits.Templates.Give(d.templates)
	d.limits.Waiting.Give(d.waiting)
	*d = decoder{limits: d.limits, domains: map[domainKey]*domain{}}
}

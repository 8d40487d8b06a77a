package netflow

// rates are the sampling rates that an exporter tells in options: one packet is sampled of so many.
type rates struct {
	samplers   map[uint64]uint32 // by the number of the sampler or selector
	interfaces map[uint32]uint32 // by the index
	others     uint32            // 0 if there are none
}

// Limits of the rates of a domain.
const (
	mostRates = 1024
	rateCost  = 48 // bytes
)

// option takes the rate that a record of options has, if it has one.
func (of *domain) option(d *decoder) {
	v := &d.values
	rate := v.rate()
	if rate == 0 {
		return
	}
	r := &of.rates
	of.told, of.noRates = true, false
	if id := uint64(v.first(sampler, selector)); id != 0 {
		set(d, of, &r.samplers, id, rate)
	} else if index := uint32(v.first(input, physicalInput)); index != 0 {
		set(d, of, &r.interfaces, index, rate)
	} else {
		r.others = rate
	}
}

func set[K comparable](d *decoder, of *domain, rates *map[K]uint32, key K, rate uint32) {
	if _, known := (*rates)[key]; !known && (len(*rates) == mostRates || !d.spend(of, rateCost)) {
		return
	}
	if *rates == nil {
		*rates = map[K]uint32{}
	}
	(*rates)[key] = rate
}

// copy copies rates, if there is room.
func (r *rates) copy(d *decoder, of *domain, from *rates) {
	r.others = from.others
	for id, rate := range from.samplers {
		set(d, of, &r.samplers, id, rate)
	}
	for index, rate := range from.interfaces {
		set(d, of, &r.interfaces, index, rate)
	}
}

// rate returns the rate for a record, 0 if there is none. It is not known if the record names a sampler of which nothing was told.
func (of *domain) rate(v *values) (rate uint32, known bool) {
	r := &of.rates
	id := uint64(v.first(sampler, selector))
	if rate = r.samplers[id]; rate == 0 {
		rate = r.interfaces[uint32(v.first(input, physicalInput))]
	}
	if rate == 0 {
		rate = r.others
	}
	if rate == 0 && id == 0 && len(r.samplers) == 1 { // the record does not say which
		for _, rate = range r.samplers {
		}
	}
	return rate, rate != 0 || id == 0
}

// survey returns how many records there are in a set, and whether the rate of one is not known.
func (d *decoder) survey(of *domain, t *template, body []byte) (records uint32, lacks bool) {
	for {
		size := d.values.read(t, body)
		if size == 0 {
			return records, lacks
		}
		body = body[size:]
		records++
		if _, known := of.rate(&d.values); !known {
			lacks = true
		}
	}
}

package netflow

import (
	"bytes"
	"encoding/binary"
	"maps"
	"slices"
)

// template says where the fields of a record are. It does not change.
type template struct {
	spec    []byte  // the fields as they were sent
	all     int     // how many fields were sent
	scopes  int     // how many of them are scopes
	fields  []field // those that are read, or all if one of them has no fixed length
	size    int     // of a record, or the least size
	varying bool    // a field has no fixed length
	options bool    // records say something about the exporter
	samples bool    // records name the sampler whose rate is theirs, and do not have the rate
	has     [numbers]bool

	octets, packets, reverseOctets, reversePackets []kind // counters
}

// field is a field of a record.
type field struct {
	kind   kind
	offset uint16 // in the record, if the template has fixed lengths
	length uint16 // varies: see variableLength
}

// variableLength is the length of a field whose length each record has (RFC 7011, section 7).
const variableLength = 0xffff

const fieldSize = 6 // of a field in memory

// cost is what a template takes in memory, roughly.
func (t *template) cost() int { return 160 + len(t.spec) + len(t.fields)*fieldSize }

// specs reads the fields of a template one by one.
type specs struct {
	left  []byte
	ipfix bool
}

// next returns the enterprise, the element and the length of a field.
func (s *specs) next() (enterprise uint32, element, length uint16, ok bool) {
	if len(s.left) < 4 {
		return 0, 0, 0, false
	}
	element, length = binary.BigEndian.Uint16(s.left), binary.BigEndian.Uint16(s.left[2:])
	s.left = s.left[4:]
	if s.ipfix && element&0x8000 != 0 { // RFC 7011, section 3.2
		if len(s.left) < 4 {
			return 0, 0, 0, false
		}
		element &^= 0x8000
		enterprise = binary.BigEndian.Uint32(s.left)
		s.left = s.left[4:]
	}
	return enterprise, element, length, true
}

// newTemplate returns the template of so many fields, of which the first ones are scopes, and how many bytes they take. It is nil if the
// fields end too early, or records would have no size or more than a datagram has.
func newTemplate(data []byte, fields, scopes int, options, ipfix bool) (*template, int) {
	s := specs{data, ipfix}
	t := &template{options: options, all: fields, scopes: scopes}
	all := make([]field, 0, min(fields, len(data)/4))
	for i := range fields {
		enterprise, element, length, ok := s.next()
		if !ok {
			return nil, len(data)
		}
		k := kindOf(enterprise, element)
		if i < scopes && !ipfix {
			k = kindOfScope(element)
		}
		if !fitsKind(k, length) {
			k = ignored
		}
		all = appendField(all, field{kind: k, offset: uint16(min(t.size, variableLength)), length: length})
		if ipfix && length == variableLength {
			t.varying = true
			t.size++
		} else {
			t.size += int(length)
		}
		if k < numbers {
			t.has[k] = true
		}
	}
	used := len(data) - len(s.left)
	if t.size == 0 || t.size > 0xffff {
		return nil, used
	}
	if !t.varying {
		all = slices.DeleteFunc(all, func(f field) bool { return f.kind == ignored })
	}
	own := t.has[interval] || t.has[randomInterval] || t.has[packetInterval] || t.has[sampleSize] || t.has[probability]
	t.count()
	t.samples = (t.has[sampler] || t.has[selector]) && !own && !options
	t.spec, t.fields = slices.Clone(data[:used]), slices.Clone(all)
	return t, used
}

// appendField adds a field. One without length says nothing, and ignored ones of fixed lengths are one.
func appendField(all []field, f field) []field {
	if f.length == 0 {
		return all
	}
	if n := len(all); n > 0 && f.kind == ignored && f.length != variableLength && all[n-1].kind == ignored && all[n-1].length != variableLength {
		if sum := int(all[n-1].length) + int(f.length); sum < variableLength {
			all[n-1].length = uint16(sum)
			return all
		}
	}
	return append(all, f)
}

// count chooses the counters of records.
func (t *template) count() {
	t.octets, t.packets = t.choose(octetCounters), t.choose(packetCounters)
	t.reverseOctets, t.reversePackets = t.choose(reverseOctetCounters), t.choose(reversePacketCounters)
	if t.has[octets] || t.has[postOctets] || t.has[totalOctets] { // what initiator and responder sent are parts of this
		t.reverseOctets, t.reversePackets = t.choose(reverseOctetCounters[:2]), t.choose(reversePacketCounters[:2])
	}
}

// fitsKind tells whether a field can have a length. Numbers may have fewer bytes than their type (RFC 7011, section 6.2).
func fitsKind(k kind, length uint16) bool {
	switch k {
	case ignored:
		return true
	case source4, destination4:
		return length == 4
	case source6, destination6:
		return length == 16
	case probability:
		return length == 8 || length == 4
	}
	return length >= 1 && length <= 8 || length == variableLength
}

// readTemplates reads the templates of a set, those of options or others. It returns false if they are broken, or there is no room for them.
func (of *domain) readTemplates(d *decoder, data []byte, options bool) bool {
	const headerLen, optionsHeaderLen = 4, 6
	ipfix, withdrawn := of.version == 10, false
	for len(data) >= headerLen {
		id, fields, scopes := binary.BigEndian.Uint16(data), int(binary.BigEndian.Uint16(data[2:])), 0
		if id == 0 { // padding
			return true
		}
		if ipfix && fields == 0 { // a withdrawal (RFC 7011, section 8.1)
			switch {
			case id >= firstData:
				of.remove(d, id)
			case !withdrawn:
				withdrawn = true
				of.withdraw(d, options)
			}
			data = data[headerLen:]
			continue
		}
		header := headerLen
		if options {
			if header = optionsHeaderLen; len(data) < header {
				return false
			}
			scopes = int(binary.BigEndian.Uint16(data[4:]))
			if !ipfix { // their lengths in bytes (RFC 3954, section 6.1)
				scopes, fields = fields/4, fields/4+scopes/4
			}
		}
		data = data[header:]
		if id < firstData {
			return false
		}
		if known := of.templates[id]; known != nil && known.options == options && known.is(data, fields, scopes) {
			data = data[len(known.spec):]
			continue
		}
		t, used := newTemplate(data, fields, scopes, options, ipfix)
		data = data[used:]
		of.remove(d, id) // even if there is no other one: data have changed
		if t == nil || !d.spend(of, t.cost()) {
			return false
		}
		of.templates[id], of.news = t, true
		of.most = max(of.most, len(of.templates))
	}
	return true
}

// is tells whether data begin with this template again.
func (t *template) is(data []byte, fields, scopes int) bool {
	return t.all == fields && t.scopes == scopes && bytes.HasPrefix(data, t.spec)
}

// withdraw removes all templates that are of options, or all others.
func (of *domain) withdraw(d *decoder, options bool) {
	for id, t := range of.templates {
		if t.options == options {
			of.remove(d, id)
		}
	}
}

func (of *domain) remove(d *decoder, id uint16) {
	if t := of.templates[id]; t != nil {
		d.spend(of, -t.cost())
		delete(of.templates, id)
	}
	if n := len(of.templates); n < of.most/4 {
		of.templates, of.most = maps.Collect(maps.All(of.templates)), n
	}
}

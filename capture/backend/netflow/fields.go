package netflow

import "promflow/capture/flow"

// kind is what a field of a template is to promflow.
type kind uint8

// Fields that are read. Numbers come first: each has a place in [values].
const (
	ignored kind = iota

	octets // since the last record of the flow
	postOctets
	totalOctets // since the flow began; of flows that are reported once
	initiatorOctets
	frameOctets // with link headers
	packets
	postPackets
	totalPackets
	initiatorPackets

	reverseOctets // of the other direction
	reverseTotalOctets
	responderOctets
	reversePackets
	reverseTotalPackets
	responderPackets

	protocol
	vlan
	tagVLAN
	input
	output
	physicalInput
	direction

	sampler // which sampling the rate is of
	selector
	interval // one packet is sampled of so many
	randomInterval
	packetInterval // so many packets are sampled, and then so many are not
	packetSpace
	sampleSize // so many packets are sampled of so many
	samplePopulation
	probability // of a packet to be sampled, a floating-point number

	numbers // how many there are

	source4
	destination4
	source6
	destination6
)

// kinds has the kinds of information elements by their numbers, which are NetFlow v9's, too, as far as v9 goes
// (IANA, IPFIX Information Elements; RFC 3954, section 8).
//
// Addresses and ports after translation (225 to 228, 281 and 282) are ignored: the original ones count.
var kinds = [512]kind{
	1: octets, 23: postOctets, 85: totalOctets, 231: initiatorOctets, 352: frameOctets,
	2: packets, 24: postPackets, 86: totalPackets, 298: initiatorPackets,
	232: responderOctets, 299: responderPackets,
	4: protocol, 8: source4, 12: destination4, 27: source6, 28: destination6,
	58: vlan, 243: tagVLAN, 10: input, 14: output, 252: physicalInput, 61: direction,
	48: sampler, 302: selector, 34: interval, 50: randomInterval, 305: packetInterval, 306: packetSpace,
	309: sampleSize, 310: samplePopulation, 311: probability,
}

// Enterprise numbers.
const (
	iana    = 0
	reverse = 29305 // the other direction's information elements (RFC 5103, section 6.1)
)

func kindOf(enterprise uint32, element uint16) kind {
	if int(element) >= len(kinds) {
		return ignored
	}
	k := kinds[element]
	switch enterprise {
	case iana:
		return k
	case reverse:
		switch k {
		case octets, postOctets:
			return reverseOctets
		case totalOctets:
			return reverseTotalOctets
		case packets, postPackets:
			return reversePackets
		case totalPackets:
			return reverseTotalPackets
		}
	}
	return ignored
}

// Scopes of NetFlow v9's options have numbers of their own (RFC 3954, section 6.1).
const scopeInterface = 2

func kindOfScope(scope uint16) kind {
	if scope == scopeInterface {
		return input
	}
	return ignored
}

// directions has the values of the field of the direction (IANA, flowDirection).
var directions = [...]flow.Direction{flow.Ingress, flow.Egress}

package top

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// units is how rates are written: in bits or in bytes a second.
type units bool

const (
	inBits  units = false
	inBytes units = true
)

// rate writes bytes a second.
func (u units) rate(bytes int64) string {
	if u == inBytes {
		return si(float64(bytes)) + "B/s"
	}
	return si(8*float64(bytes)) + "bit/s"
}

// size writes bytes.
func size(bytes int64) string { return si(float64(bytes)) + "B" }

// share writes a part of 1 in per cent.
func share(part float64) string {
	if !(part >= 0 && part <= 1) { // nor is it not a number
		return "-"
	}
	return fmt.Sprintf("%.1f %%", 100*part)
}

// si writes a number with three significant digits, or as the whole number that it is below 1000, and the prefix of its unit. What is
// below 0 can only be wrong, and is 0.
func si(v float64) string {
	v = max(v, 0)
	if v < 999.5 {
		return fmt.Sprintf("%.0f ", v)
	}
	digits, exponent, _ := strings.Cut(strconv.FormatFloat(v, 'e', 2, 64), "e") // rounds: 999500 is 1.00e+06
	at, _ := strconv.Atoi(exponent)
	mantissa, _ := strconv.ParseFloat(digits, 64)
	prefix := min(at/3, len(prefixes)-1)
	behind := max(2-(at-3*prefix), 0)
	return strconv.FormatFloat(mantissa*math.Pow10(at-3*prefix), 'f', behind, 64) + " " + prefixes[prefix:prefix+1]
}

const prefixes = " kMGTPE" // 2^63 bytes are 9.22 EB

// spark draws values as a line of so many columns, the last value at its end, where the highest one is as high as a character. Where
// nothing moved, and where there are fewer values, is space.
func spark(values []int64, width int, ascii bool) string {
	levels := []rune("▁▂▃▄▅▆▇█")
	if ascii {
		levels = []rune(".:-=+*#@")
	}
	values = values[max(len(values)-max(width, 0), 0):]
	most := int64(1)
	for _, v := range values {
		most = max(most, v)
	}
	var b strings.Builder
	b.WriteString(strings.Repeat(" ", max(width-len(values), 0)))
	for _, v := range values {
		if v <= 0 {
			b.WriteByte(' ')
			continue
		}
		b.WriteRune(levels[min(int(float64(v)/float64(most)*float64(len(levels))), len(levels)-1)])
	}
	return b.String()
}

package top

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// rate writes a rate in bytes per second, in bits or in bytes.
func rate(bytes int64, inBytes bool) string {
	if inBytes {
		return si(float64(bytes)) + "B/s"
	}
	return si(8*float64(bytes)) + "bit/s"
}

// size writes a number of bytes.
func size(bytes int64) string { return si(float64(bytes)) + "B" }

// share writes a share from 0 to 1 as a percentage.
func share(part float64) string {
	if !(part >= 0 && part <= 1) { // NaN, too
		return "-"
	}
	return fmt.Sprintf("%.1f %%", 100*part)
}

// si writes a number with three significant digits and an SI prefix, or as a whole number if it is below 1000. Negative numbers can only be
// wrong, and become 0.
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

// spark draws the last values as a line of width columns. The highest value has the height of a character. Values of 0, and missing values
// at the beginning, are spaces.
func spark(values []int64, width int, ascii bool) string {
	levels := []rune("▁▂▃▄▅▆▇█")
	if ascii {
		levels = []rune(".:-=+*#@")
	}
	values = values[max(len(values)-max(width, 0), 0):]
	most := slices.Max(append([]int64{1}, values...))
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

package watched

import (
	"fmt"
	"slices"
	"strings"
)

// Grouped writes a number with a comma before every three digits from the end.
func Grouped(n int) string {
	digits := fmt.Sprint(n)
	var b strings.Builder
	for i, digit := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(digit)
	}
	return b.String()
}

// Plural gives a number of things.
func Plural(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return Grouped(n) + " " + thing
}

// Median is that of a figure of each; of an even number of them, the mean of the middle two.
func Median[E any, N int64 | float64](of []E, figure func(E) N) N {
	var sorted []N
	for _, each := range of {
		sorted = append(sorted, figure(each))
	}
	slices.Sort(sorted)
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

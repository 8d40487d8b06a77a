package top

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/clipperhouse/displaywidth"
)

// maxMarks is how many combining marks a character may have. Written language has no more, and a tall stack would cover other lines.
const maxMarks = 2

// Clean makes untrusted text safe to print on a terminal, in one line.
func Clean(s string) string { return clean(s, false) }

// clean makes untrusted text safe to draw: anybody on the network can choose a hostname. It removes control characters, escapes, and
// characters that change the direction of writing or have no width. White space becomes a space. A question mark replaces what terminals
// may draw differently and, in ASCII, all other characters.
func clean(s string, ascii bool) string {
	if plain(s) {
		return s
	}
	var b strings.Builder
	marks := maxMarks // a mark at the beginning would combine with what is left of the text
	for _, r := range s {
		switch {
		case unicode.IsSpace(r):
			r, marks = ' ', maxMarks
		case !unicode.IsGraphic(r), invisible[r], unicode.Is(unicode.Variation_Selector, r), unicode.Is(unicode.Prepended_Concatenation_Mark, r):
			continue
		case unicode.Is(unicode.M, r):
			if marks++; marks > maxMarks {
				continue
			}
		default:
			marks = 0
		}
		switch {
		case !ascii || r < utf8.RuneSelf:
			b.WriteRune(r)
		case marks == 0:
			b.WriteByte('?')
		}
	}
	return certain(b.String())
}

// certain replaces characters that are more than a letter with non-spacing marks, such as flags, skin tones, and Indic conjuncts and vowel
// signs. Terminals disagree about their width, so what follows would move, and could cover the figures of another address.
func certain(s string) string {
	var b strings.Builder
	for g := displaywidth.StringGraphemes(s); g.Next(); {
		first, n := utf8.DecodeRuneInString(g.Value())
		spacing := func(r rune) bool { return !unicode.Is(unicode.Mn, r) }
		if unicode.Is(unicode.Regional_Indicator, first) || strings.ContainsFunc(g.Value()[n:], spacing) {
			b.WriteByte('?')
		} else {
			b.WriteString(g.Value())
		}
	}
	return b.String()
}

// plain tells whether a text is printable ASCII, as nearly all text is.
func plain(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

// invisible are letters without a glyph: the Hangul fillers.
var invisible = map[rune]bool{'\u115f': true, '\u1160': true, '\u3164': true, '\uffa0': true}

// width is how many columns a clean text takes on a terminal.
func width(s string) int { return displaywidth.String(s) }

// ellipsis marks where a text was cut.
func ellipsis(ascii bool) string {
	if ascii {
		return "~"
	}
	return "…"
}

// cut shortens a clean text to at most so many columns.
func cut(s string, columns int, ascii bool) string {
	if columns <= 0 {
		return ""
	}
	return displaywidth.TruncateString(s, columns, ellipsis(ascii))
}

// cutMiddle shortens an address in the middle: the beginning shows the network, the end the host.
func cutMiddle(s string, columns int, ascii bool) string {
	if width(s) <= columns || columns < 3 || !plain(s) {
		return cut(s, columns, ascii)
	}
	end := (columns - 1) / 2
	return s[:columns-1-end] + ellipsis(ascii) + s[len(s)-end:]
}

// pad fills a text with spaces to so many columns. With right, the text is at the right end.
func pad(s string, columns int, right bool) string {
	fill := strings.Repeat(" ", max(columns-width(s), 0))
	if right {
		return fill + s
	}
	return s + fill
}

package top

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/clipperhouse/displaywidth"
)

// maxMarks is how many marks a character may carry: written language has no more, and a tower of them would cover other lines.
const maxMarks = 2

// Clean is a text that can be printed on a terminal, in one line, whoever it comes from.
func Clean(s string) string { return clean(s, false) }

// clean takes from a text what is not to be seen, or would change what stands beside it: names come from whoever is on the network.
// Control characters, escapes included, are gone, so are those that turn the direction of writing or have no width; space is space.
// Question marks are what terminals may draw differently and, in ASCII, all other characters.
func clean(s string, ascii bool) string {
	if plain(s) {
		return s
	}
	var b strings.Builder
	marks := maxMarks // one that begins the text would go onto what stands before
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

// certain has question marks in the place of characters that are more than a letter with marks that take no room, such as flags, skin
// tones, and conjuncts and vowel signs of India: terminals do not agree on how wide these are, and what follows would stand elsewhere,
// on figures of others for example.
func certain(s string) string {
	var b strings.Builder
	for g := displaywidth.StringGraphemes(s); g.Next(); {
		first, n := utf8.DecodeRuneInString(g.Value())
		more := func(r rune) bool { return !unicode.Is(unicode.Mn, r) }
		if unicode.Is(unicode.Regional_Indicator, first) || strings.ContainsFunc(g.Value()[n:], more) {
			b.WriteByte('?')
			continue
		}
		b.WriteString(g.Value())
	}
	return b.String()
}

// plain tells whether a text is printable ASCII, as nearly all are.
func plain(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// invisible are letters that look like nothing (those of Hangul that fill a place).
var invisible = map[rune]bool{'\u115f': true, '\u1160': true, '\u3164': true, '\uffa0': true}

// width is how many columns a terminal takes for a clean text.
func width(s string) int { return displaywidth.String(s) }

// ellipsis stands for what did not find room.
func ellipsis(ascii bool) string {
	if ascii {
		return "~"
	}
	return "…"
}

// cut shortens a clean text to so many columns at most.
func cut(s string, most int, ascii bool) string {
	if width(s) <= most {
		return s
	}
	if most <= 0 {
		return ""
	}
	end, used := 0, 0
	for g := displaywidth.StringGraphemes(s); g.Next(); {
		if used += g.Width(); used > most-1 {
			break
		}
		end += len(g.Value())
	}
	return s[:end] + ellipsis(ascii)
}

// cutMiddle shortens an address: its begin is the network, its end tells hosts apart.
func cutMiddle(s string, most int, ascii bool) string {
	if width(s) <= most || most < 3 || !plain(s) {
		return cut(s, most, ascii)
	}
	end := (most - 1) / 2
	return s[:most-1-end] + ellipsis(ascii) + s[len(s)-end:]
}

// pad fills a text up to so many columns, at its end or, for what is to be on the right, before its begin.
func pad(s string, to int, right bool) string {
	fill := strings.Repeat(" ", max(to-width(s), 0))
	if right {
		return fill + s
	}
	return s + fill
}

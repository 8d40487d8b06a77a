package top

import "strings"

// Size writes a number of bytes, as in 1.23 GB.
func Size(bytes int64) string { return size(bytes) }

// Share writes a share from 0 to 1 as a percentage.
func Share(part float64) string { return share(part) }

// Columns writes untrusted cells as lines whose columns are aligned. The columns from right on are aligned at their right ends. ascii has it
// write nothing else.
func Columns(rows [][]string, right int, ascii bool) string {
	var widths []int
	clean := func(cell string) string { return cut(clean(cell, ascii), maxNameWidth, ascii) }
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], width(clean(cell)))
		}
	}
	var b strings.Builder
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, cell := range row {
			cells[i] = pad(clean(cell), widths[i], i >= right)
		}
		b.WriteString(strings.TrimRight(strings.Join(cells, "  "), " ") + "\n")
	}
	return b.String()
}

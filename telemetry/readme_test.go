package telemetry

import (
	"fmt"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"promflow/telemetry/exposition"
	"promflow/telemetry/golden"
)

//go:generate go test -count=1 -run ^TestMetricsInReadme$ . -args -update

// TestMetricsInReadme has README.md list the metrics as the page has them.
func TestMetricsInReadme(t *testing.T) {
	var b strings.Builder
	b.WriteString("| metric | labels | |\n|---|---|---|\n")
	for _, d := range definitions {
		c := collection{observed: map[string][]point{d.name: {{Value: 1}}}}
		page, err := exposition.Append(nil, exposition.Formats[0], []metricdata.ScopeMetrics{{Metrics: c.metrics()}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		name, _, _ := strings.Cut(strings.TrimPrefix(string(page), "# HELP "), " ")
		var labels []string
		for attribute := range strings.SplitSeq(d.attributes, ", ") {
			if attribute != "" {
				labels = append(labels, "`"+attribute+"`")
			}
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", name, strings.Join(labels, ", "), d.description)
	}
	golden.Section(t, "README.md", "metrics", b.String())
}

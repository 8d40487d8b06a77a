package telemetry

import (
	"context"
	"io"

	"github.com/prometheus/common/expfmt"

	"promflow/telemetry/exposition"
)

// WriteText writes r in the Prometheus text format, without the metrics of the process.
func WriteText(w io.Writer, r Reading, packets bool) error {
	metrics, err := NewSource(func() Reading { return r }, packets).Produce(context.Background())
	if err != nil {
		return err
	}
	page, err := exposition.Append(nil, expfmt.FmtText, metrics, nil)
	if err != nil {
		return err
	}
	_, err = w.Write(page)
	return err
}

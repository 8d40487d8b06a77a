package check

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// collectorFinding pushes nothing to the collector.
func collectorFinding(ctx context.Context, push func(context.Context) (string, error)) Finding {
	f := Finding{Name: "collector"}
	if push == nil {
		f.Summary = "none: promflow would not push"
		return f
	}
	begin := time.Now()
	endpoint, err := push(ctx)
	if err != nil {
		f.Status = Error
		f.Summary = fmt.Sprintf("%s does not take a push", endpoint)
		for _, e := range unjoin(err) {
			f.detail("%v", e)
		}
		return f
	}
	f.Summary = fmt.Sprintf("%s takes pushes; an empty one took %v", endpoint, time.Since(begin).Round(100*time.Microsecond))
	return f
}

// unjoin gives the errors that were joined.
func unjoin(err error) []error {
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) && len(joined.Unwrap()) > 0 && err.Error() == errors.Join(joined.Unwrap()...).Error() {
		return joined.Unwrap()
	}
	return []error{err}
}

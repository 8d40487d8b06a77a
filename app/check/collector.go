package check

import (
	"context"
	"errors"
	"time"
)

// collectorFinding tests whether the collector accepts an empty push.
func collectorFinding(ctx context.Context, push func(context.Context) (string, error)) Finding {
	f := Finding{Name: "collector", Summary: "none: promflow would not push"}
	if push == nil {
		return f
	}
	begin := time.Now()
	endpoint, err := push(ctx)
	if err != nil {
		f.set(Error, "%s does not take a push", endpoint)
		f.reasons(err)
		return f
	}
	f.set(OK, "%s takes pushes; an empty one took %v", endpoint, time.Since(begin).Round(100*time.Microsecond))
	return f
}

// reasons adds an error as a detail, or each of several joined errors.
func (f *Finding) reasons(err error) {
	all := []error{err}
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) && len(joined.Unwrap()) > 0 && err.Error() == errors.Join(joined.Unwrap()...).Error() {
		all = joined.Unwrap()
	}
	for _, e := range all {
		f.detail("%v", e)
	}
}

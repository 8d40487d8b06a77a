//go:build !linux

package watch

import "context"

// addressReports returns no reports: OnLink is asked at intervals.
func addressReports(context.Context) (<-chan struct{}, error) { return nil, nil }

//go:build !unix

package top

import (
	"context"
	"os"
)

// job is what shells of other systems suspend.
type job struct{ signals chan os.Signal }

func newJob() *job                         { return &job{} }
func (*job) close()                        {}
func continues(os.Signal) bool             { return false }
func (*job) isControlled() bool            { return false }
func (*job) stopAll(context.Context) error { return nil }
func (*job) stop(context.Context) error    { return nil }

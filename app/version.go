package app

import (
	"cmp"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/prometheus/common/version"
)

// Release is the next version (https://semver.org). build.sh reads it here: a build of the commit with the tag v0.1.0 is that version. A
// build of an earlier commit is a pre-release, such as 0.1.0-dev.420, where 420 is the number of commits.
const Release = "0.1.0"

// stamp completes the version and date that build.sh has the linker set, for builds without build.sh.
func stamp() {
	version.Version = cmp.Or(version.Version, Release+"-dev")
	if info, ok := debug.ReadBuildInfo(); ok && version.BuildDate == "" {
		for _, s := range info.Settings {
			if s.Key == "vcs.time" {
				version.BuildDate = s.Value
			}
		}
	}
	version.BuildDate = cmp.Or(version.BuildDate, "unknown")
}

// versionLine is what --version prints after the program's name. The date is the commit's: builds of one commit are the same.
func versionLine() string {
	return fmt.Sprintf("%s (commit %s of %s, %s, %s/%s)",
		version.Version, version.GetRevision(), version.BuildDate, version.GoVersion, runtime.GOOS, runtime.GOARCH)
}

// printVersion is promflow version.
func printVersion(w io.Writer) error {
	_, err := fmt.Fprintf(w, `promflow %s
commit      %s
build date  %s
Go          %s
platform    %s/%s
`, version.Version, version.GetRevision(), version.BuildDate, version.GoVersion, runtime.GOOS, runtime.GOARCH)
	return err
}

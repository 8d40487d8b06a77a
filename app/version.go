package app

import (
	"cmp"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/prometheus/common/version"
)

// Release is the version that is being worked on (https://semver.org). build.sh reads it here: a build of the commit that has
// its tag, v0.1.0, is that version; one before is a pre-release of it, such as 0.1.0-dev.420, after so many commits.
const Release = "0.1.0"

// stamp completes what build.sh has the linker say of the build, for builds without it.
func stamp() {
	version.Version = cmp.Or(version.Version, Release+"-dev")
	if version.BuildDate != "" {
		return
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.time" {
			version.BuildDate = s.Value
		}
	}
}

// versionLine follows the program's name. The date is the commit's, so that builds of one commit are the same.
func versionLine() string {
	return fmt.Sprintf("%s (commit %s of %s, %s, %s/%s)", version.Version, version.GetRevision(), buildDate(), version.GoVersion, runtime.GOOS, runtime.GOARCH)
}

func buildDate() string { return cmp.Or(version.BuildDate, "unknown") }

// printVersion is promflow version.
func printVersion(w io.Writer) error {
	_, err := fmt.Fprintf(w, `promflow %s
commit      %s
build date  %s
Go          %s
platform    %s/%s
`, version.Version, version.GetRevision(), buildDate(), version.GoVersion, runtime.GOOS, runtime.GOARCH)
	return err
}

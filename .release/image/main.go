// Command image writes promflow's container image, for each architecture, without a container engine: an archive in the OCI
// image layout, which podman, docker, skopeo and ctr load.
//
//	.release/image/build.sh
//
// It is a module of its own, so that promflow's has none of what only this needs.
//
// The same commit gives the same digest: build.sh's programs do not depend on where and when they are compiled, all times are the
// commit's, and the certificates are those of the Go module that go.sum names.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"time"
)

func main() {
	architectures := flag.String("architectures", "amd64,arm64,arm", "what the image is for, separated by commas")
	output := flag.String("o", "dist/promflow-image.tar", "the archive to write")
	name := flag.String("name", "localhost/promflow", "what the image is called, without its tag, which is the version")
	flag.Parse()
	if err := run(strings.Split(*architectures, ","), *name, *output); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run(architectures []string, name, output string) error {
	programs := map[string][]byte{}
	for _, architecture := range architectures {
		program, err := compile(architecture)
		if err != nil {
			return err
		}
		if programs[architecture], err = os.ReadFile(program); err != nil {
			return err
		}
	}
	of, err := stampOf("dist/promflow-linux-" + runtime.GOARCH)
	if err != nil {
		return err
	}
	written, err := writeArchive(output, name, of, architectures, programs)
	if err != nil {
		return err
	}
	fmt.Printf("%s: %s:%s\n", output, name, of.tag())
	for _, line := range written {
		fmt.Println(line)
	}
	return nil
}

// compile has build.sh make a program, and gives its file.
func compile(architecture string) (string, error) {
	cmd := exec.Command("./build.sh")
	cmd.Env = append(os.Environ(), "operating_system=linux", "architecture="+architecture)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("./build.sh for linux/%s: %w", architecture, err)
	}
	return strings.Fields(string(out))[0], nil
}

// stamp is what a program says of its build.
type stamp struct {
	version, commit string
	date            time.Time
}

// tag is the version as a tag: those have no "+".
func (s stamp) tag() string { return strings.ReplaceAll(s.version, "+", "-") }

var stamped = regexp.MustCompile(`^promflow (\S+)\ncommit +(\S+)\nbuild date +(\S+)\n`)

// stampOf asks a program for its version.
func stampOf(program string) (stamp, error) {
	out, err := exec.Command(program, "version").Output()
	if err != nil {
		return stamp{}, fmt.Errorf("%s version: %w: the image for this machine's own architecture has to be among them", program, err)
	}
	m := stamped.FindSubmatch(out)
	if m == nil {
		return stamp{}, fmt.Errorf("%s version says %q", program, out)
	}
	date, err := time.Parse(time.RFC3339, string(m[3]))
	if err != nil {
		return stamp{}, fmt.Errorf("the build has no date, which takes git and a clone with a commit: %w", err)
	}
	return stamp{version: string(m[1]), commit: string(m[2]), date: date}, nil
}

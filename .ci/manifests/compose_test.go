package manifests

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

const compose = "../../examples/container/compose.yaml"

// load reads a Compose file as "docker compose" does, which asks the specification's schema, with these variables.
func load(file string, variables ...string) (*types.Project, error) {
	options, err := cli.NewProjectOptions([]string{file}, cli.WithEnv(variables), cli.WithName("promflow"))
	if err != nil {
		return nil, err
	}
	return options.LoadProject(context.Background())
}

// variables are what the README has set.
var variables = []string{"INTERFACE=eth0", "MONITOR_SUBNETS=192.168.1.0/24"}

func TestCompose(t *testing.T) {
	project, err := load(compose, variables...)
	if err != nil {
		t.Fatal(err)
	}
	promflow, err := project.GetService("promflow")
	if err != nil {
		t.Fatal(err)
	}
	if got := promflow.Environment["PROMFLOW_INTERFACE"]; got == nil || *got != "eth0" {
		t.Errorf("promflow watches %v", got)
	}
	if _, err := os.Stat(filepath.Join(promflow.Build.Context, promflow.Build.Dockerfile)); err != nil {
		t.Error(err)
	}
	for name, service := range project.Services {
		t.Log(name)
		if _, version, pinned := strings.Cut(service.Image, ":"); !strings.HasPrefix(service.Image, "localhost/") && (!pinned || version == "latest") {
			t.Errorf("%s: the image %s has no version", name, service.Image)
		}
		for _, v := range service.Volumes {
			if v.Type != types.VolumeTypeBind {
				continue
			}
			if _, err := os.Stat(v.Source); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func TestComposeMistakes(t *testing.T) {
	text, err := os.ReadFile(compose)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		mistake, from, to string
		variables         []string
		want              string
	}{
		{"an unknown field of a service", "mem_limit:", "memlimit:", variables, "memlimit"},
		{"an unknown field of a health check", "start_period:", "startperiod:", variables, "startperiod"},
		{"an unknown section", "\nvolumes:", "\nvolume:", variables, "volume"},
		{"a volume that is not declared", "grafana:/var", "grafanna:/var", variables, "grafanna"},
		{"a value of the wrong type", "read_only: true", "read_only: [true]", variables, "read_only"},
		{"a variable that is not set", "", "", variables[:1], "MONITOR_SUBNETS"},
	} {
		t.Run(c.mistake, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "compose.yaml")
			if err := os.WriteFile(file, []byte(strings.Replace(string(text), c.from, c.to, 1)), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := load(file, c.variables...); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want something about %s", err, c.want)
			}
		})
	}
}

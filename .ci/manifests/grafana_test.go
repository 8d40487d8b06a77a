package manifests

import (
	"bytes"
	"encoding/json"
	"os"
	"path"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// What provisioning files may say, as far as promflow's do or could sensibly:
// https://grafana.com/docs/grafana/latest/administration/provisioning. Grafana's own reader of them cannot be imported without all of
// Grafana; it is on the same YAML library, and takes no notice of fields that it does not know.
type (
	dataSources struct {
		APIVersion  int `yaml:"apiVersion"`
		DataSources []struct {
			Name      string
			UID       string
			Type      string
			Access    string
			OrgID     int `yaml:"orgId"`
			URL       string
			IsDefault bool `yaml:"isDefault"`
			Editable  bool
			JSONData  struct {
				TimeInterval   string `yaml:"timeInterval"`
				QueryTimeout   string `yaml:"queryTimeout"`
				HTTPMethod     string `yaml:"httpMethod"`
				PrometheusType string `yaml:"prometheusType"`
			} `yaml:"jsonData"`
		} `yaml:"datasources"`
	}
	dashboards struct {
		APIVersion int `yaml:"apiVersion"`
		Providers  []struct {
			Name                  string
			OrgID                 int `yaml:"orgId"`
			Folder                string
			FolderUID             string `yaml:"folderUid"`
			Type                  string
			DisableDeletion       bool `yaml:"disableDeletion"`
			UpdateIntervalSeconds int  `yaml:"updateIntervalSeconds"`
			AllowUIUpdates        bool `yaml:"allowUiUpdates"`
			Options               struct {
				Path                      string
				FoldersFromFilesStructure bool `yaml:"foldersFromFilesStructure"`
			}
		}
	}
)

const (
	grafana         = "../../examples/grafana/"
	dataSourcesFile = grafana + "provisioning/datasources/prometheus.yml"
	dashboardsFile  = grafana + "provisioning/dashboards/promflow.yml"
)

// strictly reads YAML, all of whose fields have to be known.
func strictly(text []byte, into any) error {
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	return d.Decode(into)
}

func TestGrafanaProvisioning(t *testing.T) {
	var sources dataSources
	var providers dashboards
	for file, into := range map[string]any{dataSourcesFile: &sources, dashboardsFile: &providers} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := strictly(text, into); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
	}
	if sources.APIVersion != 1 || len(sources.DataSources) != 1 || sources.DataSources[0].Type != "prometheus" || !sources.DataSources[0].IsDefault {
		t.Errorf("not the one data source: %+v", sources)
	}
	if providers.APIVersion != 1 || len(providers.Providers) != 1 || providers.Providers[0].Type != "file" {
		t.Fatalf("not the one provider: %+v", providers)
	}

	// What Compose mounts has to be where the provider looks, and the provisioning where Grafana does.
	project, err := load(compose, variables...)
	if err != nil {
		t.Fatal(err)
	}
	service, err := project.GetService("grafana")
	if err != nil {
		t.Fatal(err)
	}
	mounted := map[string]string{}
	for _, v := range service.Volumes {
		mounted[path.Dir(v.Target)] = v.Source
	}
	dashboard := mounted[providers.Providers[0].Options.Path]
	if path.Base(dashboard) != "dashboard.json" || path.Base(mounted["/etc/grafana"]) != "provisioning" {
		t.Errorf("mounted are %v", mounted)
	}

	// The dashboard takes any data source of that type.
	var d struct {
		UID, Title string
		Templating struct {
			List []struct{ Type, Name, Query any }
		}
	}
	text, err := os.ReadFile(dashboard)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	first := d.Templating.List[0]
	if d.UID == "" || d.Title == "" || first.Type != "datasource" || first.Query != sources.DataSources[0].Type {
		t.Errorf("dashboard %q asks for a %v", d.UID, first)
	}
}

func TestGrafanaMistakes(t *testing.T) {
	for _, c := range []struct {
		mistake, file, from, to string
		into                    any
		want                    string
	}{
		{"an unknown field of a data source", dataSourcesFile, "isDefault", "isdefault", new(dataSources), "isdefault"},
		{"an unknown setting of Prometheus", dataSourcesFile, "timeInterval", "timeinterval", new(dataSources), "timeinterval"},
		{"an unknown field of a provider", dashboardsFile, "allowUiUpdates", "allowUIUpdates", new(dashboards), "allowUIUpdates"},
		{"an unknown option", dashboardsFile, "path:", "folder:", new(dashboards), "folder"},
		{"a field that is there twice", dashboardsFile, "type: file", "type: file\n    type: file", new(dashboards), "already"},
	} {
		t.Run(c.mistake, func(t *testing.T) {
			text, err := os.ReadFile(c.file)
			if err != nil {
				t.Fatal(err)
			}
			err = strictly([]byte(strings.Replace(string(text), c.from, c.to, 1)), c.into)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want something about %s", err, c.want)
			}
		})
	}
}

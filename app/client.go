package app

import (
	"fmt"
	"net/http"

	promconfig "github.com/prometheus/common/config"
)

// clientFile is how an HTTP client is configured, which flags and variables say.
type clientFile struct {
	file string
	from *setting
}

func (c *clientFile) setting(category string) *setting {
	c.from = &setting{category: category, name: "http-config-file", holder: "FILE", parse: text(&c.file),
		usage: "TLS and authentication for the URL, as of Prometheus' HTTP clients:\nhttps://prometheus.io/docs/prometheus/latest/configuration/configuration/#http_config"}
	return c.from
}

// client makes the HTTP client that the file asks for.
func (c *clientFile) client() (*http.Client, error) {
	if c.file == "" {
		return &http.Client{}, nil
	}
	wrong := func(err error) error { return fmt.Errorf("%s %q: %w", c.from.givenBy, c.file, err) }
	parsed, _, err := promconfig.LoadHTTPConfigFile(c.file)
	if err != nil {
		return nil, wrong(err)
	}
	client, err := promconfig.NewClientFromConfig(*parsed, "promflow")
	if err != nil {
		return nil, wrong(err)
	}
	return client, nil
}

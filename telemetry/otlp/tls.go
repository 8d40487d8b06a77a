package otlp

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
)

// tls returns the TLS configuration of a client with the files of o or of the environment.
func (o Config) tls() (*tls.Config, error) {
	ca, cert, key := o.caFile(), o.certFile(), o.keyFile()
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca.value != "" {
		pem, err := os.ReadFile(ca.value)
		if err != nil {
			return nil, ca.wrap(err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, ca.wrap(fmt.Errorf("%s has no certificate in PEM", ca.value))
		}
	}
	switch {
	case cert.value == "" && key.value == "":
	case key.value == "":
		return nil, cert.wrap(fmt.Errorf("%s: a client certificate needs its key", cert.value))
	case cert.value == "":
		return nil, key.wrap(fmt.Errorf("%s: a client key needs its certificate", key.value))
	default:
		load := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(cert.value, key.value)
			return &pair, err
		}
		if _, err := load(nil); err != nil { // at start and not at the first push
			return nil, cert.wrap(fmt.Errorf("client certificate %s with key %s: %w", cert.value, key.value, err))
		}
		config.GetClientCertificate = load
	}
	return config, nil
}

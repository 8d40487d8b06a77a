package otlp

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"

	"promflow/telemetry/sdk"
)

// tls makes the client's side of TLS, from files of o or of the environment.
func (o Config) tls() (*tls.Config, error) {
	ca, ofCA := fileOr(o.CAFile, "CERTIFICATE")
	cert, ofCert := fileOr(o.CertFile, "CLIENT_CERTIFICATE")
	key, ofKey := fileOr(o.KeyFile, "CLIENT_KEY")
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, settingError(ofCA, "ca-file", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, settingError(ofCA, "ca-file", fmt.Errorf("%s has no certificate in PEM", ca))
		}
	}
	switch {
	case cert == "" && key == "":
	case key == "":
		return nil, settingError(ofCert, "cert-file", fmt.Errorf("%s: a client certificate needs its key", cert))
	case cert == "":
		return nil, settingError(ofKey, "key-file", fmt.Errorf("%s: a client key needs its certificate", key))
	default:
		load := func() (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(cert, key)
			return &pair, err
		}
		if _, err := load(); err != nil { // now rather than at the first push
			return nil, settingError(ofCert, "cert-file", fmt.Errorf("client certificate %s with key %s: %w", cert, key, err))
		}
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	}
	return config, nil
}

// fileOr gives file, or that of a variable.
func fileOr(file, name string) (string, sdk.Variable) {
	if file != "" {
		return file, sdk.Variable{}
	}
	v := otlpVariable(name)
	return v.Value, v
}

package otlptest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Authority is a certificate authority.
type Authority struct {
	File string // with its certificate, in PEM
	own  tls.Certificate
}

// NewAuthority returns an authority with a self-signed certificate.
func NewAuthority(t testing.TB) (a Authority) {
	t.Helper()
	template := &x509.Certificate{Subject: pkix.Name{CommonName: "CA"}, IsCA: true, BasicConstraintsValid: true}
	cert, key := a.sign(t, template, t.TempDir())
	return Authority{cert, load(t, cert, key)}
}

// Issue writes a certificate for localhost and 127.0.0.1, and for a client with this name, and its key to files in dir, in PEM. The names
// of the files are always the same.
func (a Authority) Issue(t testing.TB, name, dir string) (cert, key string) {
	t.Helper()
	return a.sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}, dir)
}

// Server returns the configuration of a server with a certificate of a. If mutual is true, clients need one, too.
func (a Authority) Server(t testing.TB, mutual bool) *tls.Config {
	t.Helper()
	cert, key := a.Issue(t, "server", t.TempDir())
	config := &tls.Config{Certificates: []tls.Certificate{load(t, cert, key)}}
	if mutual {
		config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
		config.ClientCAs.AddCert(a.own.Leaf)
	}
	return config
}

// sign writes a certificate like template, signed by a or, if that is zero, by itself.
func (a Authority) sign(t testing.TB, template *x509.Certificate, dir string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	issuer := a.own
	if issuer.Leaf == nil {
		issuer = tls.Certificate{Leaf: template, PrivateKey: private}
	}
	template.NotAfter = time.Now().Add(time.Hour)
	signed, err := x509.CreateCertificate(rand.Reader, template, issuer.Leaf, private.Public(), issuer.PrivateKey)
	encoded, otherErr := x509.MarshalPKCS8PrivateKey(private)
	if err := errors.Join(err, otherErr); err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: signed}, key: {Type: "PRIVATE KEY", Bytes: encoded}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

func load(t testing.TB, cert, key string) tls.Certificate {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

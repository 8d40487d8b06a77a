package otlp_test

import (
	"maps"
	"strings"
	"testing"

	"promflow/telemetry/otlp"
)

func TestParseHeaders(t *testing.T) {
	for s, want := range map[string]map[string]string{
		"":                                   {},
		"k=v,k2=v2":                          {"k": "v", "k2": "v2"},
		" K = v , ":                          {"k": "v"},
		"a=b=c,d=":                           {"a": "b=c", "d": ""},
		"a=Bearer%20x%2Cy,b=1+1":             {"a": "Bearer x,y", "b": "1+1"},
		"a=Bearer%20x%2Cy,a=2%":              nil,
		"authorization=Basic%20dXNlcjpwYXNz": {"authorization": "Basic dXNlcjpwYXNz"},
		"a=1,a=2":                            {"a": "2"},
		"novalue":                            nil,
		"=v":                                 nil,
		"a b=v":                              nil,
		"ä=v":                                nil,
		"a=%C3%A4":                           nil,
		"a-bin=%C3":                          {"a-bin": "\xc3"},
		"a=%0d":                              nil,
		"grpc-host=x":                        nil,
	} {
		got, err := otlp.ParseHeaders(s)
		if (err != nil) != (want == nil) || err == nil && !maps.Equal(got, want) {
			t.Errorf("%q: got %v, %v; want %v", s, got, err, want)
		}
	}
}

func TestHeaderErrorsShowNoSecret(t *testing.T) {
	for s, place := range map[string]string{
		"a=1,key=secret%":               `"key"`,
		"a=1,key=secret%00":             `"key"`,
		"grpc-key=secret":               `"grpc-key"`,
		"a=1,secret":                    "header 2",
		"authorization: Bearer secret":  "header 1",
		"authorization: Bearer secret=": "header 1",
		"Bearer secret==":               "header 1",
		"a=1,,ключ secret=":             "header 3",
	} {
		_, err := otlp.ParseHeaders(s)
		if err == nil || strings.Contains(strings.ToLower(err.Error()), "secret") || !strings.Contains(err.Error(), place) {
			t.Errorf("%q: error %v; want one that names %s and no secret", s, err, place)
		}
	}
}

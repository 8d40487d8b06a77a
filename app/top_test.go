package app

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestBaseURLs(t *testing.T) {
	for text, want := range map[string]string{
		"http://router:9088":       "http://router:9088",
		"router:9089":              "http://router:9089",
		"router":                   "http://router:9088",
		"router/promflow":          "http://router:9088/promflow",
		"ali:x@router":             "http://ali:x@router:9088",
		"192.0.2.1":                "http://192.0.2.1:9088",
		"fd00::1":                  "http://[fd00::1]:9088",
		"fe80::1%eth0":             "http://[fe80::1%25eth0]:9088",
		"[fd00::1]":                "http://[fd00::1]:9088",
		"[fd00::1]:80":             "http://[fd00::1]:80",
		"http://router":            "http://router",
		"https://router/below/it/": "https://router/below/it/",
		"ftp://router":             "",
		"http://":                  "",
		"":                         "",
		"http://router?a=b":        "",
		"router#a":                 "",
		"a router":                 "",
		"router:many":              "",
	} {
		base, err := parseBase(text)
		if got := fmt.Sprint(base); err == nil && got != want || err != nil && want != "" {
			t.Errorf("%q is %v, %v, want %q", text, base, err, want)
		}
	}
}

// What has a terminal to give back ends before a panic does the rest.
func TestAlongside(t *testing.T) {
	failed := errors.New("failed")
	wait := func(ctx context.Context) error { <-ctx.Done(); return nil }
	for name, c := range map[string]struct {
		main, job func(context.Context) error
		want      error
		panics    string
	}{
		"the end of main ends the job": {func(context.Context) error { return nil }, wait, nil, ""},
		"so does its failure":          {func(context.Context) error { return failed }, wait, failed, ""},
		"the job's failure ends main":  {wait, func(context.Context) error { return failed }, failed, ""},
		"the job's panic does, too":    {wait, func(context.Context) error { panic("all is lost") }, nil, "all is lost"},
	} {
		t.Run(name, func(t *testing.T) {
			ended := false
			defer func() {
				if p, _ := recover().(string); !strings.HasPrefix(p, c.panics) || (p == "") != (c.panics == "") || !ended {
					t.Errorf("panics with %q, want %q; main has ended: %v", p, c.panics, ended)
				}
			}()
			err := alongside(t.Context(), func(ctx context.Context) error { defer func() { ended = true }(); return c.main(ctx) }, c.job)
			if !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

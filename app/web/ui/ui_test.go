package ui

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestHandler(t *testing.T) {
	h := Handler()
	ask := func(method, path, tag string) *http.Response {
		r := httptest.NewRequest(method, path, nil)
		r.Header.Set("If-None-Match", tag)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Result()
	}
	for _, c := range []struct {
		method, path string
		status       int
		contentType  string
	}{
		{"GET", "/", 200, "text/html; charset=utf-8"},
		{"HEAD", "/", 200, "text/html; charset=utf-8"},
		{"GET", "/assets/page.js", 200, "text/javascript; charset=utf-8"},
		{"GET", "/assets/page.css", 200, "text/css; charset=utf-8"},
		{"GET", "/assets/favicon.svg", 200, "image/svg+xml"},
		{"GET", "/assets/uplot/LICENSE", 200, "text/plain; charset=utf-8"},
		{"POST", "/", 405, "text/plain; charset=utf-8"},
		{"GET", "/page.html", 404, "text/plain; charset=utf-8"},
		{"GET", "/assets/page.html", 404, "text/plain; charset=utf-8"},
		{"GET", "/assets/", 404, "text/plain; charset=utf-8"},
		{"GET", "/ui.go", 404, "text/plain; charset=utf-8"},
	} {
		t.Run(c.method+" "+c.path, func(t *testing.T) {
			got := ask(c.method, c.path, "")
			if got.StatusCode != c.status || got.Header.Get("Content-Type") != c.contentType {
				t.Errorf("%s, %s; want %d, %s", got.Status, got.Header.Get("Content-Type"), c.status, c.contentType)
			}
			for name, want := range map[string]string{
				"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-cache",
			} {
				if got := got.Header.Get(name); got != want && c.status == 200 {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
			if tag := got.Header.Get("ETag"); c.status == 200 {
				if again := ask(c.method, c.path, tag); again.StatusCode != 304 {
					t.Errorf("who has it already is answered with %s", again.Status)
				}
			}
		})
	}
}

// TestPageHasNothingInline checks what the policy would keep from working.
func TestPageHasNothingInline(t *testing.T) {
	page, err := files.ReadFile("page.html")
	if err != nil {
		t.Fatal(err)
	}
	for _, inline := range []string{"<style", "style=", " onclick", "javascript:", "<script>", "http://", "https://"} {
		if strings.Contains(string(page), inline) {
			t.Errorf("the page has %q", inline)
		}
	}
}

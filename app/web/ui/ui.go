// Package ui is the live page: the current rates of addresses in a browser. The program contains all files of the page, and the page loads
// nothing from elsewhere.
//
// The files in assets/uplot are those of uPlot 1.6.32 (https://github.com/leeoniya/uPlot), unchanged, as published on npm.
package ui

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"io/fs"
	"net/http"
	"path"
	"time"
)

//go:embed page.html assets
var files embed.FS

// policy lets the page load from its own server, and from nowhere else.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// contentTypes has the content types by file extension. Those of package mime depend on the system.
var contentTypes = map[string]string{
	"":      "text/plain; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".html": "text/html; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
}

// Handler serves the page at / and its assets below /assets/.
func Handler() http.Handler {
	mux := http.NewServeMux()
	err := fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := files.ReadFile(name)
		at := "/" + name
		if name == "page.html" {
			at = "/{$}"
		}
		mux.Handle("GET "+at, serve(name, content))
		return err
	})
	if err != nil {
		panic(err) // the files are embedded
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-cache") // a browser asks each time, with the ETag
		mux.ServeHTTP(w, r)
	})
}

// serve serves a file.
func serve(name string, content []byte) http.Handler {
	sum := sha256.Sum256(content)
	tag := `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", contentTypes[path.Ext(name)])
		w.Header().Set("ETag", tag)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	})
}

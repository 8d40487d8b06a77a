package web

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"
)

// deadline is how long anything may take on a busy machine before a test is lost.
const deadline = 30 * time.Second

// TestWhoDoesNotReadIsCutOff has a client read slowly, and another one not at all.
func TestWhoDoesNotReadIsCutOff(t *testing.T) {
	const stall = time.Second
	chunk := make([]byte, 1<<20)
	ended := make(chan error, 1)
	server := httptest.NewServer(answers(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		var err error
		for i := 0; i < 64 && err == nil; i++ {
			_, err = w.Write(chunk)
		}
		ended <- err
	}), stall))
	defer server.Close()

	response, err := http.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	begin := time.Now()
	for range 8 { // reads for longer than may be stalled
		if _, err := io.CopyN(io.Discard, response.Body, 8<<20); err != nil {
			t.Fatalf("a slow reader was cut off after %v: %v", time.Since(begin), err)
		}
		<-time.After(stall / 4)
	}
	if err := <-ended; err != nil {
		t.Errorf("a slow reader was cut off: %v", err)
	}

	stalled, err := http.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer stalled.Body.Close()
	select {
	case err := <-ended:
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the answer that nobody reads ended with %v", err)
		}
	case <-time.After(deadline):
		t.Error("the answer that nobody reads goes on")
	}
}

func TestDeadlineOfAHandlerStays(t *testing.T) {
	ended := make(chan error, 1)
	server := httptest.NewServer(answers(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		err := http.NewResponseController(w).SetWriteDeadline(time.Now())
		for i := 0; i < 64 && err == nil; i++ {
			_, err = w.Write(make([]byte, 1<<20))
		}
		ended <- err
	}), deadline))
	defer server.Close()
	if response, err := http.Get(server.URL); err == nil {
		t.Errorf("got %s", response.Status)
	}
	if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the answer ended with %v", err)
	}
}

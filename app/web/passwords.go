package web

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"time"

	"go.yaml.in/yaml/v2"
	"golang.org/x/time/rate"
)

// maxLogins is how many logins with unknown passwords may wait to be verified, and be verified.
const maxLogins = 8

// passwords adds to exporter-toolkit what it lacks for clients that try passwords. The toolkit verifies one password at a time, which takes
// some 50 ms (bcrypt): it lets any number of clients wait for that, also those that have gone, and forgets right passwords when many wrong
// ones are tried. And it serves everybody once its file has no users any more.
//
// A request goes through before, the toolkit's handler and behind.
type passwords struct {
	file     string // the toolkit's
	required bool   // the file had users at the start
	log      *slog.Logger
	refused  rate.Sometimes // logs
	waiting  chan struct{}  // an element for each login that waits or is verified
	verified chan struct{}  // an element for the login that is verified

	mu    sync.Mutex
	right map[login]bool // that the toolkit has accepted
}

// login identifies a user, a password and what the file has for the user.
type login [sha256.Size]byte

type acceptedKey struct{}

func newPasswords(file string, log *slog.Logger) (*passwords, error) {
	p := &passwords{
		file: file, log: log, refused: rate.Sometimes{Interval: time.Minute},
		waiting: make(chan struct{}, maxLogins), verified: make(chan struct{}, 1), right: map[login]bool{},
	}
	users, err := p.users()
	p.required = len(users) > 0
	return p, err
}

// users returns the users in the file, with the hashes of their passwords.
func (p *passwords) users() (map[string]string, error) {
	text, err := os.ReadFile(p.file)
	var config struct {
		Users map[string]string `yaml:"basic_auth_users"`
	}
	if err == nil {
		err = yaml.Unmarshal(text, &config)
	}
	return config.Users, err
}

// loginOf returns the login of a request; ok is false if there is none.
func loginOf(r *http.Request, users map[string]string) (l login, ok bool) {
	user, password, ok := r.BasicAuth()
	h := sha256.New()
	for _, part := range []string{user, users[user], password} {
		sum := sha256.Sum256([]byte(part))
		h.Write(sum[:])
	}
	return login(h.Sum(nil)), ok
}

// before passes requests on whose password is known to be right, and lets a few others wait for each other.
func (p *passwords) before(toolkit http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		users, err := p.users()
		if err == nil && len(users) == 0 && p.required {
			p.refuse(w)
			return
		}
		l, ok := loginOf(r, users)
		if err != nil || len(users) == 0 || !ok { // the toolkit answers at once
			toolkit.ServeHTTP(w, r)
			return
		}
		p.mu.Lock()
		right := p.right[l]
		p.mu.Unlock()
		if right {
			toolkit.ServeHTTP(w, r)
			return
		}
		select {
		case p.waiting <- struct{}{}:
		default:
			w.Header().Set("Retry-After", "1")
			http.Error(w, "too many passwords are being verified, try again", http.StatusTooManyRequests)
			return
		}
		select {
		case p.verified <- struct{}{}:
		case <-r.Context().Done(): // the client has gone
			<-p.waiting
			return
		}
		done := sync.OnceFunc(func() { <-p.verified; <-p.waiting })
		defer done()
		accepted := func() { p.accept(l, len(users)); done() } // before the answer, which may take long
		toolkit.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), acceptedKey{}, accepted)))
	})
}

// behind serves requests that the toolkit has let through. If it did so because the file has just lost its users, they are refused.
func (p *passwords) behind(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p.required {
			if users, err := p.users(); err != nil || len(users) == 0 {
				p.refuse(w)
				return
			}
		}
		if accepted, ok := r.Context().Value(acceptedKey{}).(func()); ok {
			accepted()
		}
		h.ServeHTTP(w, r)
	})
}

// accept remembers a login. Those of users that the file had before are forgotten.
func (p *passwords) accept(l login, users int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.right) >= 2*users {
		clear(p.right)
	}
	p.right[l] = true
}

func (p *passwords) refuse(w http.ResponseWriter) {
	p.refused.Do(func() {
		p.log.Error("the web configuration has no users any more: nobody is served until it has some, or promflow is restarted", "file", p.file)
	})
	http.Error(w, "the web configuration has no users any more", http.StatusInternalServerError)
}

package web

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"go.yaml.in/yaml/v2"
	"golang.org/x/crypto/bcrypt"
	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"
)

// maxLogins is how many logins that are not known to be right may be verified or wait for that, and maxLoginsOfIP how many of these may be
// of one client.
const (
	maxLogins     = 8
	maxLoginsOfIP = 6 // which a browser may send at a time
)

// passwords verifies passwords in front of exporter-toolkit, which reads them from the same file. The toolkit verifies one at a time, which
// takes 50 ms and more (bcrypt). It lets any number of clients wait for that, also those that have gone; it forgets right passwords when
// many wrong ones are tried; and it serves everybody once the file has no users any more. Here a few logins wait, right ones stay known
// while the file has them, and wrong ones never reach the toolkit.
type passwords struct {
	file     string
	log      *slog.Logger
	refused  rate.Sometimes // logs
	required atomic.Bool    // the file has had users

	verified *semaphore.Weighted // of the login that is verified

	mu       sync.Mutex
	right    map[login]bool // verified before
	logins   int            // that are verified or wait
	loginsOf map[string]int // by IP address
}

// login identifies a user, a password and the hash that the file has for the user.
type login [sha256.Size]byte

// verifiedKey is in the context of requests with a right password.
type verifiedKey struct{}

func newPasswords(file string, log *slog.Logger) *passwords {
	return &passwords{
		file: file, log: log, refused: rate.Sometimes{Interval: time.Minute},
		verified: semaphore.NewWeighted(1), right: map[login]bool{}, loginsOf: map[string]int{},
	}
}

// users returns the users in the file, with the hashes of their passwords. It is an error if there are none any more.
func (p *passwords) users() (map[string]string, error) {
	text, err := os.ReadFile(p.file)
	var config struct {
		Users map[string]string `yaml:"basic_auth_users"`
	}
	if err == nil {
		err = yaml.Unmarshal(text, &config)
	}
	if len(config.Users) > 0 {
		p.required.Store(true)
	} else if err == nil && p.required.Load() {
		err = fmt.Errorf("%s has no users any more: nobody is served until it has some, or promflow is restarted", p.file)
	}
	return config.Users, err
}

// check passes requests on to the toolkit if their password is right, or if the file has no users and never had any.
func (p *passwords) check(toolkit http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		users, err := p.users()
		if err != nil {
			p.refused.Do(func() { p.log.Error("web configuration", "error", err) })
			http.Error(w, "the web configuration of this server is wrong", http.StatusInternalServerError)
			return
		}
		if len(users) == 0 {
			toolkit.ServeHTTP(w, r)
			return
		}
		user, password, given := r.BasicAuth()
		right := given && p.known(loginOf(users, user, password))
		if given && !right {
			var waited bool
			if right, waited = p.verify(r, users, user, password); !waited {
				w.Header().Set("Retry-After", "1")
				http.Error(w, "too many passwords are being verified, try again", http.StatusTooManyRequests)
				return
			}
			if r.Context().Err() != nil {
				panic(http.ErrAbortHandler) // the client has gone
			}
		}
		if !right {
			unauthorized(w)
			return
		}
		toolkit.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), verifiedKey{}, true)))
	})
}

// require serves what the toolkit lets through, if check has verified a password or there are none. The toolkit reads the file by itself,
// and may find it without users for a moment.
func (p *passwords) require(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p.required.Load() && r.Context().Value(verifiedKey{}) == nil {
			unauthorized(w)
			return
		}
		h.ServeHTTP(w, r)
	})
}

func unauthorized(w http.ResponseWriter) {
	w.Header().Set("WWW-Authenticate", "Basic")
	http.Error(w, http.StatusText(http.StatusUnauthorized), http.StatusUnauthorized)
}

func loginOf(users map[string]string, user, password string) login {
	h := sha256.New()
	for _, part := range []string{user, users[user], password} {
		sum := sha256.Sum256([]byte(part))
		h.Write(sum[:])
	}
	return login(h.Sum(nil))
}

// known tells whether a login was right before, with the hash that the file has.
func (p *passwords) known(l login) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.right[l]
}

// unknownUser is the hash for users that the file does not have: so that it takes as long to refuse them.
var unknownUser = sync.OnceValue(func() []byte {
	hash, err := bcrypt.GenerateFromPassword([]byte("unknown"), bcrypt.DefaultCost)
	if err != nil {
		panic(err) // the password and the cost are valid
	}
	return hash
})

// begin takes a place for a login, if there is one.
func (p *passwords) begin(ip string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.logins == maxLogins || p.loginsOf[ip] == maxLoginsOfIP {
		return false
	}
	p.logins++
	p.loginsOf[ip]++
	return true
}

func (p *passwords) end(ip string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.logins--
	if p.loginsOf[ip]--; p.loginsOf[ip] == 0 {
		delete(p.loginsOf, ip)
	}
}

// verify tells whether a login is right. It waits for the one before, while the client does; waited is false if too many wait.
func (p *passwords) verify(r *http.Request, users map[string]string, user, password string) (right, waited bool) {
	ip := ipOf(r.RemoteAddr)
	if !p.begin(ip) {
		return false, false
	}
	defer p.end(ip)
	if p.verified.Acquire(r.Context(), 1) != nil {
		return false, true
	}
	defer p.verified.Release(1)
	hash, exists := users[user]
	if !exists {
		_ = bcrypt.CompareHashAndPassword(unknownUser(), []byte(password))
		return false, true
	}
	login := loginOf(users, user, password)
	// Several requests of a new client may have waited for the same login.
	if !p.known(login) && bcrypt.CompareHashAndPassword([]byte(hash), []byte(password)) != nil {
		return false, true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.right) >= 2*len(users) { // some are of users or hashes that the file had before
		clear(p.right)
	}
	p.right[login] = true
	return true, true
}

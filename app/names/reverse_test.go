package names

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"
)

// lookupsPerSecond is the rate of tests.
const lookupsPerSecond = 20

// server is a resolver of the test's, with what it was asked and when.
type server struct {
	mu     sync.Mutex
	answer func(ctx context.Context, addr string) ([]string, error)
	asked  []string
	atOnce int
	most   int // at once
}

func (s *server) lookup(ctx context.Context, addr string) ([]string, error) {
	s.mu.Lock()
	s.asked = append(s.asked, addr)
	s.atOnce++
	s.most = max(s.most, s.atOnce)
	answer := s.answer
	s.mu.Unlock()
	names, err := answer(ctx, addr)
	s.mu.Lock()
	s.atOnce--
	s.mu.Unlock()
	return names, err
}

// take gives what was asked since the last time, and how many questions were open at once.
func (s *server) take() (asked []string, most int) {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	asked, most = s.asked, s.most
	s.asked, s.most = nil, s.atOnce
	return asked, most
}

func (s *server) answers(f func(context.Context, string) ([]string, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = f
}

func named(_ context.Context, addr string) ([]string, error) {
	return []string{"host-" + strings.ReplaceAll(addr, ".", "-") + "."}, nil
}

func nobody(context.Context, string) ([]string, error) {
	return nil, &net.DNSError{Err: "no such host", IsNotFound: true}
}

// dead never answers.
func dead(ctx context.Context, _ string) ([]string, error) {
	<-ctx.Done()
	return nil, &net.DNSError{Err: "i/o timeout", IsTimeout: true}
}

// asking runs f beside a reverse that asks a server, in a bubble whose time takes none.
func asking(t *testing.T, most int, f func(r *reverse, s *server)) {
	synctest.Test(t, func(t *testing.T) {
		log, _ := logged()
		s := &server{answer: named}
		r := newReverse(60*lookupsPerSecond, most, log)
		r.lookup = s.lookup
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { r.run(ctx); close(ended) }()
		f(r, s)
		cancel()
		begin := time.Now()
		<-ended
		if took := time.Since(begin); took > 0 {
			t.Errorf("the end took %v", took)
		}
	})
}

func host(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}) }

func TestAnswersHoldForATime(t *testing.T) {
	asking(t, 10, func(r *reverse, s *server) {
		step := func(name string, wait time.Duration, want string, asked int) {
			t.Helper()
			time.Sleep(wait)
			r.name(laptop)
			if got, _ := s.take(); len(got) != asked {
				t.Errorf("%s: asked %v, want %d", name, got, asked)
			}
			if got := r.known(laptop); got != want {
				t.Errorf("%s: is %q, want %q", name, got, want)
			}
		}
		step("new", 0, "host-192-168-1-133", 1)
		step("soon", 59*time.Minute, "host-192-168-1-133", 0)
		s.answers(func(context.Context, string) ([]string, error) { return nil, &net.DNSError{IsTemporary: true} })
		step("the server fails", time.Minute, "host-192-168-1-133", 1)
		step("soon after it", 59*time.Second, "host-192-168-1-133", 0)
		step("later", time.Second, "host-192-168-1-133", 1)
		step("twice as late", 119*time.Second, "host-192-168-1-133", 0)
		s.answers(nobody)
		step("the name is gone", time.Second, "", 1)
		step("it stays so", 14*time.Minute, "", 0)
		s.answers(func(context.Context, string) ([]string, error) { return []string{"b.", "a."}, nil })
		step("two names", time.Minute, "a", 1)
		s.answers(func(context.Context, string) ([]string, error) { return []string{"0.", "a."}, nil })
		step("one of them is the old one", time.Hour, "a", 1)
		s.answers(func(context.Context, string) ([]string, error) { return []string{"\x1b[31mred.", "b."}, nil })
		step("one of them is none", time.Hour, "b", 1)
		s.answers(func(context.Context, string) ([]string, error) { return []string{"\xff."}, nil })
		step("all of them are none", time.Hour, "", 1)
	})
}

func TestRateIsLimited(t *testing.T) {
	asking(t, 10_000, func(r *reverse, s *server) {
		read := func() {
			for i := range 2000 {
				r.name(host(i))
			}
		}
		read()
		time.Sleep(10 * time.Second)
		if asked, _ := s.take(); len(asked) < 190 || len(asked) > 10*lookupsPerSecond+1 {
			t.Errorf("asked %d questions in 10 s", len(asked))
		}
		read() // what had no room
		for range 20 {
			time.Sleep(15 * time.Second)
			read()
		}
		asked, _ := s.take()
		if slices.Sort(asked); len(asked) != len(slices.Compact(slices.Clone(asked))) || len(asked) < 1700 {
			t.Errorf("asked %d questions about %d addresses", len(asked), len(slices.Compact(asked)))
		}
		if got := r.known(host(1999)); got != "host-10-0-7-207" {
			t.Errorf("the last one is %q", got)
		}
	})
}

// TestNewOnesAreNotKeptFromTheirTurn has more addresses that need to be asked about again and again than can be.
func TestNewOnesAreNotKeptFromTheirTurn(t *testing.T) {
	asking(t, 100_000, func(r *reverse, s *server) {
		s.answers(nobody)
		const many = 25_000 // 18,000 can be asked about while an answer holds
		for range 2 * many / lookupsPerSecond / 25 {
			for i := range many {
				r.name(host(i))
			}
			time.Sleep(25 * time.Second)
		}
		asked, _ := s.take()
		slices.Sort(asked)
		if n := len(slices.Compact(asked)); n != many {
			t.Errorf("asked about %d of %d addresses", n, many)
		}
	})
}

func TestDeadServerIsAskedSeldom(t *testing.T) {
	asking(t, 10_000, func(r *reverse, s *server) {
		s.answers(dead)
		for i := range 1000 {
			r.name(host(i))
		}
		time.Sleep(time.Minute)
		if asked, most := s.take(); most != lookupsAtOnce || len(asked) > 4*lookupsAtOnce {
			t.Errorf("asked %d questions, %d of them at once", len(asked), most)
		}
		for i := range 1000 {
			r.name(host(i))
		}
		time.Sleep(10 * time.Minute)
		if asked, most := s.take(); most != 1 || len(asked) < 30 || len(asked) > 40 {
			t.Errorf("asked %d questions in 10 minutes, %d of them at once", len(asked), most)
		}
		s.answers(named)
		time.Sleep(silentPause + lookupTimeout)
		s.take()
		time.Sleep(10 * time.Second)
		if asked, _ := s.take(); len(asked) < 190 {
			t.Errorf("asked %d questions in 10 s once it answers", len(asked))
		}
		// Those that it left unanswered are not to blame.
		for range 20 {
			r.name(host(0))
			time.Sleep(15 * time.Second)
		}
		if got := r.known(host(0)); got != "host-10-0-0-0" {
			t.Errorf("is %q", got)
		}
	})
}

// whileLogging calls a function when something is logged.
type whileLogging struct {
	slog.Handler
	call func()
}

func (l whileLogging) Enabled(context.Context, slog.Level) bool { return true }

func (l whileLogging) Handle(context.Context, slog.Record) error {
	l.call()
	return nil
}

// TestNobodyWaitsForTheLog has one that takes its time, as a pipe does that nobody reads.
func TestNobodyWaitsForTheLog(t *testing.T) {
	r := newReverse(240, 10, nil)
	logged := 0
	r.log = slog.New(whileLogging{slog.DiscardHandler, func() {
		logged++
		if !r.mu.TryLock() {
			t.Fatal("who asks for a name waits for the log")
		}
		r.mu.Unlock()
	}})
	for _, unanswered := range []int{silentAfter, 0} {
		r.unanswered = unanswered
		r.silent()
	}
	for _, pause := range []time.Duration{minRefusedPause, 0} {
		r.pause = pause
		r.refuses()
	}
	if logged != 4 {
		t.Errorf("logged %d times, want 4", logged)
	}
}

// failing is a server that is there, and answers nothing.
func failing(context.Context, string) ([]string, error) {
	return nil, fmt.Errorf("%w: %w", errFailed, &net.DNSError{IsTemporary: true})
}

// TestServerThatRefusesIsLeftAlone has one that refuses all, and then answers again.
func TestServerThatRefusesIsLeftAlone(t *testing.T) {
	asking(t, 1000, func(r *reverse, s *server) {
		log, logged := logged()
		r.log = log
		s.answers(failing)
		for i := range 300 {
			r.name(host(i))
		}
		for i, step := range []struct {
			wait        time.Duration
			least, most int // questions
		}{
			{59 * time.Second, refusedAfter, refusedAfter + lookupsAtOnce},
			{2 * time.Second, 1, 1}, {118 * time.Second, 0, 0}, {2 * time.Second, 1, 1}, {4 * time.Minute, 1, 1}, {8 * time.Minute, 1, 1},
			{16 * time.Minute, 1, 1}, {30 * time.Minute, 1, 1}, {30 * time.Minute, 1, 1},
		} {
			time.Sleep(step.wait)
			if asked, _ := s.take(); len(asked) < step.least || len(asked) > step.most {
				t.Errorf("step %d: asked %d questions, want %d to %d", i, len(asked), step.least, step.most)
			}
		}
		if n := strings.Count(logged.String(), "the resolver refuses to answer"); n != 1 || strings.Contains(logged.String(), "answers again") {
			t.Errorf("warned %d times: %s", n, logged)
		}
		if _, asked := r.name(host(299)); !asked {
			t.Error("others wait for an answer that will not come soon")
		}
		s.answers(named)
		time.Sleep(maxRefusedPause + 2*300/lookupsPerSecond*time.Second)
		if got := r.known(host(299)); got != "host-10-0-1-43" {
			t.Errorf("the last one is %q once it answers", got)
		}
		if n := strings.Count(logged.String(), "the resolver answers again"); n != 1 {
			t.Errorf("told %d times: %s", n, logged)
		}
	})
}

// TestAddressThatFailsDoesNotBlameTheServer asks about few addresses again and again.
func TestAddressThatFailsDoesNotBlameTheServer(t *testing.T) {
	asking(t, 10, func(r *reverse, s *server) {
		s.answers(failing)
		for range 1000 {
			for i := range refusedAfter - 1 {
				r.name(host(i))
			}
			time.Sleep(time.Minute)
		}
		if _, refused := r.refuses(); refused {
			t.Errorf("the server is left alone")
		}
	})
}

// TestZonesThatFailDoNotSlowOthersDown has a server that is there, and can tell nothing of most addresses.
func TestZonesThatFailDoNotSlowOthersDown(t *testing.T) {
	asking(t, 1000, func(r *reverse, s *server) {
		s.answers(func(ctx context.Context, addr string) ([]string, error) {
			if i := netip.MustParseAddr(addr).As4()[3]; addr == host(499).String() || i%(refusedAfter/2) == 0 {
				return named(ctx, addr)
			}
			return nil, fmt.Errorf("%w: %w", errFailed, &net.DNSError{IsTemporary: true})
		})
		for i := range 500 {
			r.name(host(i))
		}
		time.Sleep(30 * time.Second)
		if got := r.known(host(499)); got != "host-10-0-1-243" {
			t.Errorf("the last one is %q", got)
		}
	})
}

// TestZoneThatFailsIsNotTheServer has many addresses in a row that a server can tell nothing of, after one that it knows.
func TestZoneThatFailsIsNotTheServer(t *testing.T) {
	asking(t, 1000, func(r *reverse, s *server) {
		log, logged := logged()
		r.log = log
		s.answers(func(ctx context.Context, addr string) ([]string, error) {
			if strings.HasPrefix(addr, "10.") {
				return failing(ctx, addr)
			}
			return named(ctx, addr)
		})
		r.name(laptop)
		for i := range 200 {
			r.name(host(i))
		}
		r.name(printer)
		time.Sleep(200/lookupsPerSecond*time.Second + 5*time.Second)
		if got := r.known(printer); got != "host-192-168-1-134" {
			t.Errorf("the last one is %q", got)
		}
		if asked, _ := s.take(); len(asked) > 202+200/refusedAfter {
			t.Errorf("asked %d questions", len(asked))
		}
		if logged.Len() > 0 {
			t.Errorf("logged %s", logged)
		}

		s.answers(failing)
		for i := range 200 {
			r.name(host(300 + i))
		}
		time.Sleep(59 * time.Second)
		if asked, _ := s.take(); len(asked) > refusedAfter+lookupsAtOnce+1 {
			t.Errorf("asked %d questions of a server that refuses all", len(asked))
		}
		if n := strings.Count(logged.String(), "the resolver refuses to answer"); n != 1 {
			t.Errorf("warned %d times: %s", n, logged)
		}
	})
}

// TestDeadServerIsNotAskedBeyondTheRate has a rate that is lower than that of questions to a server that may be dead.
func TestDeadServerIsNotAskedBeyondTheRate(t *testing.T) {
	asking(t, 100, func(r *reverse, s *server) {
		r.limiter.SetLimit(rate.Every(time.Minute))
		s.answers(dead)
		for i := range 100 {
			r.name(host(i))
		}
		time.Sleep(time.Hour)
		if asked, _ := s.take(); len(asked) < 59 || len(asked) > 61 {
			t.Errorf("asked %d questions in an hour, want 60", len(asked))
		}
	})
}

func TestCacheIsBounded(t *testing.T) {
	asking(t, 10, func(r *reverse, s *server) {
		for i := range 100 {
			r.name(host(i))
			r.name(host(0))
		}
		time.Sleep(time.Minute)
		s.take()
		if len(r.answers) != 10 || r.recent.Len() != 10 {
			t.Errorf("%d and %d are kept, want 10", len(r.answers), r.recent.Len())
		}
		for _, i := range []int{0, 99, 91} {
			if r.known(host(i)) == "" {
				t.Errorf("no name for %v, which was wanted last", host(i))
			}
		}
	})
}

func TestGroupsAndLinksAreNotAskedAbout(t *testing.T) {
	asking(t, 10, func(r *reverse, s *server) {
		for _, addr := range []string{"224.0.0.251", "ff02::1", "fe80::1", "169.254.1.1", "0.0.0.0", "::", "255.255.255.255"} {
			r.name(netip.MustParseAddr(addr))
		}
		time.Sleep(time.Minute)
		if asked, _ := s.take(); len(asked) > 0 {
			t.Errorf("asked about %v", asked)
		}
	})
}

// udpServer answers questions with what respond makes of them, until the test ends. It counts them. dial connects to it.
func udpServer(t *testing.T, respond func(question []byte) []byte) (asked *atomic.Int64, dial func(context.Context, string, string) (net.Conn, error)) {
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	asked = new(atomic.Int64)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for b := make([]byte, 512); ; {
			n, from, err := server.ReadFrom(b)
			if err != nil {
				return
			}
			asked.Add(1)
			server.WriteTo(respond(b[:n]), from)
		}
	}()
	t.Cleanup(func() { server.Close(); <-ended })
	return asked, func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, server.LocalAddr().String())
	}
}

// withCode makes an answer, recursion available, of a question (RFC 1035, 4.1.1).
func withCode(code byte) func([]byte) []byte {
	return func(b []byte) []byte {
		b[2], b[3] = b[2]|0x80, 0x80|code
		return b
	}
}

// TestLookupIsOneQuestion has name servers that fail and refuse, and one that answers.
func TestLookupIsOneQuestion(t *testing.T) {
	for name, c := range map[string]struct {
		code   byte
		failed bool
	}{
		"SERVFAIL": {2, true}, "no such name": {3, false}, "not implemented": {4, true}, "REFUSED": {5, true},
	} {
		t.Run(name, func(t *testing.T) {
			asked, dial := udpServer(t, withCode(c.code))
			_, err := lookupBy(dial, rate.NewLimiter(rate.Inf, 1))(t.Context(), "192.0.2.1")
			notFound := (*net.DNSError)(nil)
			if err == nil || errors.As(err, &notFound) && notFound.IsNotFound == c.failed {
				t.Errorf("the error is %v", err)
			}
			if c.failed && !errors.Is(err, errFailed) {
				t.Errorf("the error is %v, want that a server has failed", err)
			}
			if n := asked.Load(); n != 1 {
				t.Errorf("asked %d questions, want 1", n)
			}
		})
	}
}

// TestClosedPortIsNoServer has nobody at the server's address.
func TestClosedPortIsNoServer(t *testing.T) {
	dial := func(context.Context, string, string) (net.Conn, error) { return nil, syscall.ECONNREFUSED }
	if _, err := lookupBy(dial, rate.NewLimiter(rate.Inf, 1))(t.Context(), "192.0.2.1"); err == nil || errors.Is(err, errFailed) {
		t.Errorf("the error is %v", err)
	}
}

// TestFurtherQuestionsKeepTheRate has no server, which Go's resolver tries again.
func TestFurtherQuestionsKeepTheRate(t *testing.T) {
	limiter := rate.NewLimiter(rate.Every(time.Hour), 1)
	limiter.Allow() // which the caller waits for
	tried := 0
	dial := func(context.Context, string, string) (net.Conn, error) { tried++; return nil, syscall.ECONNREFUSED }
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := lookupBy(dial, limiter)(ctx, "192.0.2.1"); err == nil || tried != 1 {
		t.Errorf("tried %d times, want 1; the error is %v", tried, err)
	}
}

// TestTruncatedAnswersAreAskedForByTCP has a server whose answer has no room in a datagram.
func TestTruncatedAnswersAreAskedForByTCP(t *testing.T) {
	asked, dial := udpServer(t, func(b []byte) []byte {
		b = withCode(0)(b)
		b[2] |= 2
		return b
	})
	var byTCP atomic.Int64
	var served sync.WaitGroup
	defer served.Wait()
	_, err := lookupBy(func(ctx context.Context, network, address string) (net.Conn, error) {
		if network == "udp" {
			return dial(ctx, network, address)
		}
		byTCP.Add(1)
		here, there := net.Pipe()
		served.Go(func() {
			defer there.Close()
			var length [2]byte
			if _, err := io.ReadFull(there, length[:]); err != nil {
				return
			}
			question := make([]byte, binary.BigEndian.Uint16(length[:]))
			if _, err := io.ReadFull(there, question); err != nil {
				return
			}
			there.Write(append(length[:], withCode(3)(question)...))
		})
		return here, nil
	}, rate.NewLimiter(rate.Inf, 1))(t.Context(), "192.0.2.1")
	notFound := (*net.DNSError)(nil)
	if !errors.As(err, &notFound) || !notFound.IsNotFound || asked.Load() != 1 || byTCP.Load() != 1 {
		t.Errorf("asked %d questions by UDP and %d by TCP, want 1 each; the error is %v", asked.Load(), byTCP.Load(), err)
	}
}

// TestResolverStopsWhenTold has a name server that is there and says nothing.
func TestResolverStopsWhenTold(t *testing.T) {
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, silent.LocalAddr().String())
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		_, err := lookupBy(dial, rate.NewLimiter(rate.Inf, 1))(ctx, "192.0.2.1")
		ended <- err
	}()
	if _, _, err := silent.ReadFrom(make([]byte, 512)); err != nil { // the question
		t.Fatal(err)
	}
	begin := time.Now()
	cancel()
	if err := <-ended; err == nil || time.Since(begin) > 2*time.Second {
		t.Errorf("ended with %v after %v", err, time.Since(begin))
	}
}

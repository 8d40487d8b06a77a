package history

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"promflow/capture"
)

var kills = flag.Int("kills", 40, "how often TestKilledAtAnyMoment kills a process")

func TestMain(m *testing.M) {
	if dir := os.Getenv("PROMFLOW_TEST_HISTORY"); dir != "" {
		write(dir)
		return
	}
	os.Exit(m.Run())
}

// killTable is the table of the process that is killed: addresses come and go.
func killTable() *capture.Table { return capture.NewTable(300, time.Millisecond) }

// keepHours has periods of five minutes deleted, and no others, while processes are killed.
var keepHours = [resolutions]time.Duration{Hour: -1, Day: -1, Month: -1}

// write writes a history until it is killed. It says on stdout which totals it is about to write, and which it has written.
func write(dir string) {
	now := time.Now()
	table := killTable()
	h, err := Open(Config{Dir: dir, Table: table, Retention: keepHours, Now: func() time.Time { return now }})
	if err != nil {
		fmt.Println("error", err)
		return
	}
	now = now.Add(time.Duration(max(h.state.saved-now.Unix(), 0)) * time.Second)
	counter := capture.NewCounter(table)
	for n := 0; ; n++ {
		counter.Lock()
		for range 200 {
			counter.Add(addr4(rand.IntN(400)), capture.Totals{ReceiveBytes: rand.Int64N(1 << 20), TransmitBytes: 1})
		}
		counter.Unlock()
		var sum capture.Totals
		s := table.Snapshot()
		for i := range s.Hosts {
			sum.Add(s.Hosts[i].Totals)
		}
		now = now.Add(time.Duration(rand.IntN(200)) * time.Second)
		fmt.Println("before", sum.ReceiveBytes, sum.TransmitBytes)
		h.Write()
		if h.Failing() {
			fmt.Println("error: it cannot be written")
			return
		}
		fmt.Println("after", sum.ReceiveBytes, sum.TransmitBytes)
	}
}

// TestKilledAtAnyMoment kills a process that writes, again and again. What is found then is what was last written, or what was about to be.
func TestKilledAtAnyMoment(t *testing.T) {
	b := newBench(t, Config{Dir: filepath.Join(t.TempDir(), "data"), Retention: keepHours})
	b.Close()
	var reached int
	var last volume // what was found
	for range *kills {
		c := exec.CommandContext(t.Context(), os.Args[0])
		c.Env = append(os.Environ(), "PROMFLOW_TEST_HISTORY="+b.config.Dir)
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Duration(rand.Int64N(int64(60*time.Millisecond))), func() { c.Process.Kill() })
		var what string
		var before, after *volume
		for in := bufio.NewScanner(out); in.Scan(); {
			v := new(volume)
			if n, _ := fmt.Sscan(in.Text(), &what, &v.receive, &v.transmit); n != 3 {
				if what == "before" || what == "after" {
					break // it was killed while it said so
				}
				rest, _ := io.ReadAll(out)
				t.Fatalf("the process says %s %s", in.Text(), rest)
			}
			if before = v; what == "after" {
				after = v
			}
		}
		c.Wait()
		b.log.Reset()
		b.openWith(killTable())
		got := b.total()
		if b.log.Len() > 0 || b.Failing() {
			t.Fatalf("the log has %s", &b.log)
		}
		if before != nil {
			reached++
			if after == nil {
				after = &last
			}
			if got != *before && got != *after {
				t.Fatalf("%+v are kept, %+v were written and %+v about to be", got, *after, *before)
			}
		}
		last = got
		b.conservedIn(Hour, Day, Month)
		b.kill()
	}
	if reached < *kills/4 {
		t.Errorf("%d of %d processes wrote: the test shows little", reached, *kills)
	}
}

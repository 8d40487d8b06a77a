package main

import (
	"bytes"
	"errors"
	"flag"
	"strings"
	"testing"
	"time"
)

func TestFlags(t *testing.T) {
	var help bytes.Buffer
	o, err := parse(nil, &help)
	if err != nil || o.duration != 20*time.Minute || o.rate != 200_000 || o.scrape != time.Second || len(o.captures) != 2 || o.maxIPs != 4096 {
		t.Errorf("the defaults are %+v (%v)", o, err)
	}
	if o, err := parse([]string{"-spoof"}, &help); err != nil || o.maxIPs != 65536 {
		t.Errorf("with -spoof they are %+v (%v)", o, err)
	}
	if _, err := parse([]string{"-h"}, &help); !errors.Is(err, flag.ErrHelp) || !strings.Contains(help.String(), "-spoof [flags]") {
		t.Errorf("-h gives %v and prints %s", err, &help)
	}
	for _, wrong := range []string{"-capture=", "-capture=ebpf,", "-max-ips=1000", "-expire-after=0", "-duration=0", "-scrape=0", "-restart=0", "-rate=0", "-rounds=0", "-frames=0", "argument", "-nosuch"} {
		if _, err := parse([]string{wrong}, &help); err == nil {
			t.Errorf("%s is accepted", wrong)
		}
	}
}

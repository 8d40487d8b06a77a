package app

import (
	"context"
	"log/slog"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"
)

// service tells a service manager that promflow is ready, alive, or about to end (sd_notify(3)). Without a service manager it does nothing.
type service struct {
	status string
	read   func() // reads the counts: promflow is alive as long as that returns
	log    *slog.Logger
}

// run sends "ready", and "stopping" when ctx ends. In between it reads the counts twice in the time of the manager's watchdog, if there is
// one, and answers the watchdog: if the capture or the table hangs, the manager gets no answer, and restarts promflow.
func (s *service) run(ctx context.Context) error {
	s.notify(systemd.SdNotifyReady + "\nSTATUS=" + s.status)
	defer s.notify(systemd.SdNotifyStopping)
	within, err := systemd.SdWatchdogEnabled(false)
	if err != nil {
		s.log.Warn("the watchdog's settings from the service manager are invalid: promflow will not answer it", "error", err)
	}
	var tick <-chan time.Time // never, without a watchdog
	if within > 0 {
		tick = time.Tick(within / 2)
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick:
			s.read()
			s.notify(systemd.SdNotifyWatchdog)
		}
	}
}

func (s *service) notify(state string) {
	if _, err := systemd.SdNotify(false, state); err != nil {
		s.log.Warn("notifying the service manager failed", "state", state, "error", err)
	}
}

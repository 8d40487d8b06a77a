package app

import (
	"context"
	"log/slog"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"
)

// service is what a service manager is told (sd_notify(3)): that promflow is ready, that it is alive, and that it ends. Where
// there is no service manager, or none that asks, nothing happens.
type service struct {
	status string
	read   func() // the counts: whoever cannot do that any more is not alive
	log    *slog.Logger
}

// run tells that promflow is ready, and that it ends once ctx does. Between, where the manager has a watchdog, it reads the
// counts twice in the watchdog's time, and says so: if capture or table hang, the manager hears nothing more, and restarts promflow.
func (s *service) run(ctx context.Context) error {
	s.notify(systemd.SdNotifyReady + "\nSTATUS=" + s.status)
	defer s.notify(systemd.SdNotifyStopping)
	within, err := systemd.SdWatchdogEnabled(false)
	if err != nil {
		s.log.Warn("the service manager's watchdog is not understood: promflow will not answer it", "error", err)
	}
	if within == 0 {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(within / 2)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			s.read()
			s.notify(systemd.SdNotifyWatchdog)
		}
	}
}

func (s *service) notify(state string) {
	if _, err := systemd.SdNotify(false, state); err != nil {
		s.log.Warn("the service manager cannot be told", "state", state, "error", err)
	}
}

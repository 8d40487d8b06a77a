package app

import (
	"context"
	"log/slog"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"
)

// tellService tells a service manager that promflow is ready, with its status, alive, or about to end (sd_notify(3)). Without a service
// manager it does nothing.
//
// It sends "ready", and "stopping" when ctx ends. In between it reads the counts twice in the time of the manager's watchdog, if there is
// one, and answers the watchdog: if the capture or the table hangs, so that read does not return, the manager gets no answer, and restarts
// promflow.
func tellService(ctx context.Context, status string, read func(), log *slog.Logger) error {
	notify := func(state string) {
		if _, err := systemd.SdNotify(false, state); err != nil {
			log.Warn("notifying the service manager failed", "state", state, "error", err)
		}
	}
	notify(systemd.SdNotifyReady + "\nSTATUS=" + status)
	defer notify(systemd.SdNotifyStopping)
	within, err := systemd.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("the watchdog's settings from the service manager are invalid: promflow will not answer it", "error", err)
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
			read()
			notify(systemd.SdNotifyWatchdog)
		}
	}
}

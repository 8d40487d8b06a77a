#!/bin/sh
# After files were removed.
set -e
case "$1" in
remove | purge | 0)
	if [ -d /run/systemd/system ]; then
		systemctl daemon-reload
		systemctl reset-failed promflow.socket promflow.service 2>/dev/null || true
	fi
	;;
esac
# The history: systemd has made the directory for the service, and the symbolic link to it. rpm does not purge.
if [ "$1" = purge ]; then
	rm -rf /var/lib/private/promflow /var/lib/promflow
fi

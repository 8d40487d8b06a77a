#!/bin/sh
# After files were unpacked. dpkg says "configure" and the version that was there before; rpm, how many versions there are now.
set -e
case "$1 $2" in
"configure " | "1 ")
	if [ -d /run/systemd/system ]; then
		systemctl daemon-reload
	fi
	echo "promflow: say what to count in /etc/default/promflow, then: systemctl enable --now promflow"
	;;
configure* | [2-9]*)
	if [ -d /run/systemd/system ]; then
		systemctl daemon-reload
		# Only what runs: a socket that is listened on stays, and so do the clients that wait at it.
		systemctl try-restart promflow.service
	fi
	;;
esac

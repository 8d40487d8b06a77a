#!/bin/sh
# Before files are removed. dpkg says "remove", rpm that no version will be left; with an upgrade, nothing is to be done.
set -e
case "$1" in
remove | 0)
	if [ -d /run/systemd/system ]; then
		systemctl --no-reload disable --now promflow.socket promflow.service
	elif command -v systemctl >/dev/null; then
		systemctl --no-reload disable promflow.socket promflow.service
	fi
	;;
esac

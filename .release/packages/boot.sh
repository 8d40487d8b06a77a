#!/usr/bin/env bash
# Boots the systemd of a root filesystem, as a container does, but with all capabilities:
#   unshare --pid --fork --kill-child --mount --uts --ipc --net --cgroup .release/packages/boot.sh ROOT
# It ends, and whatever was mounted with it, when unshare is killed. This machine's kernel settings stay as they are.
set -euo pipefail

mount --make-rprivate /
mount --bind "$1" "$1"
cd "$1"
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=755 tmpfs dev
for device in null zero full random urandom tty; do
	touch dev/$device
	mount --bind /dev/$device dev/$device
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mkdir -p old
pivot_root . old
umount --lazy old
rmdir old
exec env --ignore-environment container=promflow PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd systemd.unit=multi-user.target

# SPDX-License-Identifier: Apache-2.0
# A systemd of the test's own, as process 1 of its own namespaces, on an overlay
# over this machine's file system: nothing of it stays. Sourced after lib.sh.
#
# Loopback and the kernel are shared with the machine: registries of the test
# can be reached, /proc/sys cannot be written.
# shellcheck shell=bash

requires_systemd() {
	requires_root
	requires_fs overlay
	requires_cmd systemctl systemd-analyze dbus-daemon nsenter unshare
	[ -x /lib/systemd/systemd ] || plan_skip "needs systemd"
}

# The hierarchy of control groups that systemd works in, mounted on $1.
mount_cgroup() {
	if [ "$(stat -fc %T /sys/fs/cgroup)" = cgroup2fs ]; then
		mount -t cgroup2 none "$1"
	else
		mount -t cgroup -o none,name=systemd none "$1"
	fi
}

# What the machine would do at its start; here there is none of it.
SYSTEMD_MASKED='systemd-udevd.service systemd-udevd-kernel.socket
	systemd-udevd-control.socket systemd-udev-trigger.service
	systemd-journald-audit.socket systemd-modules-load.service
	systemd-sysctl.service systemd-tmpfiles-setup.service
	systemd-tmpfiles-setup-dev.service systemd-binfmt.service
	systemd-remount-fs.service systemd-random-seed.service
	systemd-update-utmp.service proc-sys-fs-binfmt_misc.automount
	dev-mqueue.mount dev-hugepages.mount sys-kernel-debug.mount
	sys-kernel-tracing.mount sys-kernel-config.mount
	sys-fs-fuse-connections.mount getty.target'

# In the new namespaces: makes the tree, and becomes systemd.
# systemd_tree TREE DESTDIR
systemd_tree() {
	local top=$1 dest=$2 tree=$1/tree u
	set -e
	mount -t tmpfs none "$top"
	mkdir -p "$top/upper/etc/systemd/system" "$top/work" "$tree"
	cp -a "$dest/." "$top/upper/"
	# None of what this machine has enabled.
	setfattr -n trusted.overlay.opaque -v y "$top/upper/etc/systemd/system"
	mount -t overlay -o "lowerdir=/,upperdir=$top/upper,workdir=$top/work" \
		none "$tree"
	cd "$tree"
	mount -t proc none proc
	mount --bind -o ro proc/sys proc/sys
	mount -t sysfs -o ro none sys
	mount -t tmpfs none sys/fs/cgroup
	if [ "$(stat -fc %T /sys/fs/cgroup)" = cgroup2fs ]; then
		mount_cgroup sys/fs/cgroup
	else
		mkdir sys/fs/cgroup/systemd
		mount_cgroup sys/fs/cgroup/systemd
	fi
	mount -t tmpfs -o mode=755 none run
	mount -t tmpfs -o mode=755 none dev
	for u in null zero full random urandom tty fuse; do
		: >"dev/$u"
		mount --bind "/dev/$u" "dev/$u"
	done
	mkdir -p dev/shm dev/pts var/lib/estargz
	# An overlay cannot have its upper directory on another.
	mount -t tmpfs -o mode=700 none var/lib/estargz
	: >etc/fstab
	for u in $SYSTEMD_MASKED; do
		ln -sf /dev/null "etc/systemd/system/$u"
	done
	cat >etc/systemd/system/test.target <<-END
	[Unit]
	Requires=sysinit.target dbus.service
	After=sysinit.target dbus.service
	END
	mkdir -p mnt/old
	pivot_root . mnt/old
	umount -l /mnt/old
	exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
		"ESTARGZ_TEST_ID=$T" /lib/systemd/systemd --system \
		--unit=test.target --log-target=console --show-status=no
}

# start_systemd DESTDIR: what is installed there is in the tree. Sets INIT, the
# process; its log is $T/systemd.log.
start_systemd() {
	local cg=$T/cg
	mkdir -p "$T/systemd" "$cg"
	mount_cgroup "$cg" || return 1
	mkdir -p "$cg/${T##*/}"
	export -f mount_cgroup systemd_tree
	export SYSTEMD_MASKED T
	# shellcheck disable=SC2016
	background systemd bash -c 'echo $$ >"$1/cgroup.procs"
		exec unshare --mount --pid --fork --cgroup --uts --ipc \
			--propagation private --kill-child \
			bash -c "systemd_tree \"\$@\"" - "$2" "$3"' \
		- "$cg/${T##*/}" "$T/systemd" "$1"
	wait_for 20 systemd_pid || return 1
	INIT=$(systemd_pid)
	wait_for 30 inside systemctl is-active test.target
}
systemd_pid() {
	local p
	for p in $(test_procs systemd); do
		grep -q '^NSpid:.*[[:space:]]1$' "/proc/$p/status" && echo "$p" &&
			return
	done
	return 1
}
# inside COMMAND...: in the namespaces of that systemd.
inside() { nsenter -t "$INIT" -m -p -C -u -i -- "$@"; }

stop_systemd() {
	kill -9 "$INIT" 2>/dev/null
	wait_for 10 pid_gone "$INIT"
	find "$T/cg/${T##*/}" -depth -type d -exec rmdir {} \; 2>/dev/null
	umount "$T/cg"
}

# unit_is UNIT PROPERTY VALUE
unit_is() {
	[ "$(inside systemctl show -P "$2" "$1")" = "$3" ]
}
main_pid() { inside systemctl show -P MainPID "$1"; }
# restarted UNIT PID: runs, as another process
restarted() {
	unit_is "$1" ActiveState active && [ "$(main_pid "$1")" != "$2" ]
}
# Whether process $1 (as it is called inside) is in no mount namespace of its own.
shares_mounts() {
	[ "$(inside readlink "/proc/$1/ns/mnt")" = \
		"$(inside readlink /proc/1/ns/mnt)" ]
}

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

# Whether systemd knows control groups of version 2 only.
only_version_2() {
	[ "$(systemctl --version | sed -n '1s/systemd \([0-9]*\).*/\1/p')" -ge 258 ]
}

# The control groups of this process that systemd uses: "NAME PATH" of each
# hierarchy, NAME as below /sys/fs/cgroup. Version 2 is there ".", or "unified".
control_groups() {
	local n name path version_2=unified
	[ "$(stat -fc %T /sys/fs/cgroup)" != cgroup2fs ] || version_2=.
	while IFS=: read -r n name path; do
		if [ "$n" = 0 ]; then
			[ $version_2 = . ] || only_version_2 || continue
			name=$version_2
		elif only_version_2; then
			continue
		fi
		name=${name#name=}
		[ ! -w "/sys/fs/cgroup/$name$path/cgroup.procs" ] ||
			echo "$name $path"
	done </proc/self/cgroup
}

# Process $2 goes into a group $1 below its own, in each hierarchy.
enter_groups() {
	local name path d f
	control_groups | while read -r name path; do
		d=/sys/fs/cgroup/$name$path
		mkdir -p "$d/$1" || return 1
		for f in cpuset.cpus cpuset.mems; do
			[ ! -f "$d/$1/$f" ] || cat "$d/$f" >"$d/$1/$f"
		done
		echo "$2" >"$d/$1/cgroup.procs" || return 1
	done
}
# Removes them. Fails while somebody dies in one.
leave_groups() {
	local name path d rc=0
	while read -r name path; do
		d=/sys/fs/cgroup/$name$path/$1
		find "$d" -depth -type d -exec rmdir {} \; 2>/dev/null
		[ ! -d "$d" ] || rc=1
	done < <(control_groups)
	return $rc
}
# In a control group namespace: mounts what is in /sys/fs/cgroup there.
mount_groups() {
	local name path
	mount -t tmpfs -o mode=755 none "$1"
	control_groups | while read -r name path; do
		case $name in
		. | unified) mount -t cgroup2 none "$1"; continue ;;
		systemd) set -- "$1" none,name=systemd ;;
		*) set -- "$1" "$name" ;;
		esac
		mkdir "$1/$name"
		mount -t cgroup -o "$2" none "$1/$name"
	done
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

# In the new namespaces: makes the tree, and becomes systemd. What others unmount
# must go here, too: it would be held on to, and who serves it live on.
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
	mount_groups sys/fs/cgroup
	mount -t tmpfs -o mode=755 none run
	mount -t tmpfs -o mode=755 none dev
	for u in null zero full random urandom tty fuse; do
		: >"dev/$u"
		mount --bind "/dev/$u" "dev/$u"
	done
	mkdir -p dev/shm dev/pts
	# An overlay cannot have its upper directory on another.
	for u in "$T"/var/*; do
		mkdir -p "var/lib/${u##*/}"
		mount --bind "$u" "var/lib/${u##*/}"
	done
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

# start_systemd DESTDIR: what is installed there is in the tree, and the
# directories of $T/var are in its /var/lib. Sets INIT, the process; its log is
# $T/systemd.log.
start_systemd() {
	local tree=$T/systemd
	mkdir -p "$tree" "$T/var/estargz"
	export -f only_version_2 control_groups enter_groups mount_groups systemd_tree
	export SYSTEMD_MASKED T
	# shellcheck disable=SC2016
	background systemd bash -c 'enter_groups "$1" $$ &&
		exec unshare --mount --pid --fork --cgroup --uts --ipc \
			--propagation slave --kill-child \
			bash -c "systemd_tree \"\$@\"" - "$2" "$3"' \
		- "${T##*/}" "$tree" "$1"
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
	wait_for 10 leave_groups "${T##*/}"
}

# unit_is UNIT PROPERTY VALUE
unit_is() {
	[ "$(inside systemctl show -P "$2" "$1")" = "$3" ]
}
# 0: none
main_pid() { inside systemctl show -P MainPID "$1"; }
# kill_inside PID: never 0, which is everybody who is started as we are
kill_inside() { [ "$1" -gt 1 ] && inside kill -9 "$1"; }
# restarted UNIT PID: runs, as another process
restarted() {
	local p
	p=$(main_pid "$1")
	[ "$p" -gt 1 ] && [ "$p" != "$2" ] && unit_is "$1" ActiveState active
}
# Whether process $1 (as it is called inside) is in no mount namespace of its own.
shares_mounts() {
	[ "$(inside readlink "/proc/$1/ns/mnt")" = \
		"$(inside readlink /proc/1/ns/mnt)" ]
}

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# 20 containers of 5 images, created and removed in parallel, over and over:
# nothing is left of them. $CHURN_ROUNDS (2); a long run has 10.
. "${top_srcdir:-.}/tests/lib.sh"
. "${top_srcdir:-.}/tests/containerd.sh"
requires_containerd own
IMGS=(debian jdk awkward web1 web2)
images "${IMGS[@]}"
ROUNDS=${CHURN_ROUNDS:-2}

start_srv srv --oci "$IMAGES"
R=$SRV_ADDR/lab/img
S=$SNAPSHOTTER
ctd_start own
SNAP_BACKGROUND=true SNAP_PREFETCH=true
snap_start

# What each is asked, and the answer.
sum_of() { tar -xOf "$LAYERS/$1.tar" "./$2" | sha256sum | cut -d ' ' -f 1; }
declare -A ASK WANT
for t in debian jdk; do
	ASK[$t]="sha256sum </usr/bin/perl"
	WANT[$t]="$(sum_of base usr/bin/perl)  -"
done
ASK[jdk]="${ASK[jdk]}; java -version 2>&1 | grep -c Server"
WANT[jdk]="${WANT[jdk]}
1"
ASK[awkward]="sha256sum </random9M"
WANT[awkward]="$(sum_of special random9M)  -"
for t in web1 web2; do
	ASK[$t]="cat /srv/f* | sha256sum"
	WANT[$t]=$(mkdir "$T/$t" && tar -C "$T/$t" -xf "$LAYERS/$t.tar" &&
		cat "$T/$t"/srv/f* | sha256sum)
done

# one N: the life of a container
one() {
	local t=${IMGS[$(($1 % ${#IMGS[@]}))]} id=c$1 rc
	life "$id" "$t"
	rc=$?
	[ $rc = 0 ] || grep "$id\b" "$CTD_LOG" | tail -n 8
	ct_rm "$id" || rc=1
	return $rc
}
life() {
	local got
	ct_start "$1" "$S" "$R:$2" sleep inf || return 1
	got=$(ct_exec "$1" sh -c "${ASK[$2]}")
	ct_exec "$1" sh -c 'echo more >>/etc/passwd; mkdir /opt/new; rm -r /var' ||
		return 1
	[ "$got" = "${WANT[$2]}" ] || { echo "$2 said: $got"; return 1; }
}
# all COMMAND N: in parallel; fails if one does
all() {
	local i p rc=0 pids=()
	for ((i = 0; i < $2; i++)); do
		"$1" "$i" >"$T/one.$i" 2>&1 &
		pids+=($!)
	done
	for i in "${!pids[@]}"; do
		p=${pids[$i]}
		wait "$p" || { rc=1; tail -n 10 "$T/one.$i"; }
	done
	return $rc
}
pull_one() { rpull "$R:${IMGS[$1]}"; }
# But for connections to the registry, which are kept for a while.
fds() {
	readlink "/proc/$1"/fd/* | grep -vxFf \
		<(awk '{ print "socket:[" $10 "]" }' /proc/net/tcp) | wc -l
}
# What there is when there is nothing: state in one line.
state() {
	echo "mounts=$(mounts_below "$T" | wc -l)" \
		"processes=$(product_procs | wc -l)" \
		"shims=$(test_procs containerd-shim-runc-v2 | wc -l)" \
		"snapshots=$(($(snapshots ls | wc -l) - 1))" \
		"directories=$(find "$SNAP/snapshots" "$SNAP/m" -mindepth 1 | wc -l)"
}
# fds_of NAME PID: at most as many as at first
declare -A FDS
fds_of() {
	local n
	[ "$S" = estargz ] || return 0
	n=$(fds "$2")
	[ -n "${FDS[$1]:-}" ] || FDS[$1]=$n
	[ "$n" -le "${FDS[$1]}" ]
}
all_fds() {
	fds_of snapshotter "$SNAP_PID" &&
		fds_of estargzd "$(test_procs estargzd | head -n 1)"
}
# MiB. How much of a layer is there when its last container goes is chance: the
# caches that may stay are not counted.
disk() {
	"$ESTARGZ" prune --root "$SNAP" >"$T/pruned" || cat "$T/pruned" >&2
	du -s --block-size=1M "$SNAP" | cut -f 1
}
first_state() { [ "$(state)" = "$FIRST" ]; }
nothing_runs() { [[ $(state) == *shims=0\ snapshots=0\ directories=0 ]]; }

for ((r = 1; r <= ROUNDS; r++)); do
	ok "round $r: images are pulled in parallel" all pull_one ${#IMGS[@]}
	ok "round $r: 20 containers" all one 20
	[ "$r" != 1 ] || diag "$(n_lazy) layers are mounted"
	drop_images >/dev/null
	ok "round $r: the layers go" wait_for 30 no_lazy
	if [ "$r" = 1 ]; then
		wait_for 10 no_mount_procs
		wait_for 20 nothing_runs
		FIRST=$(state)
		all_fds
		DISK=$(disk)
		diag "$FIRST disk=$DISK"
		continue
	fi
	wait_for 20 first_state
	is "$(state)" "$FIRST" "round $r: it is as it was"
	ok "round $r: no descriptor more is open" wait_for 20 all_fds
	at_most "$(disk)" "$((DISK + 4))" "round $r: on the disk too"
done
[ "$S" != estargz ] || like "$FIRST" 'mounts=0 .*shims=0 snapshots=0 directories=0' \
	"and that is nothing"
snap_end
ctd_stop
no_leaks
done_testing

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# SIGKILL of each of our processes at random moments of pulls, starts and
# reads. Containers do not notice, no byte is wrong, and all goes on by itself:
# here the daemons are started again as systemd does it (Restart=always).
# $KILLS of each kind (3); a long run has 50. $SEED repeats a run's moments.
. "${top_srcdir:-.}/tests/lib.sh"
. "${top_srcdir:-.}/tests/containerd.sh"
requires_containerd own
images debian awkward web1
KILLS=${KILLS:-3}
SEED=${SEED:-$RANDOM}
RANDOM=$SEED
diag "SEED=$SEED KILLS=$KILLS"

start_srv srv --oci "$IMAGES"
R=$SRV_ADDR/lab/img
S=$SNAPSHOTTER
ctd_start own

### The daemons, started again and again ###
# supervise NAME COMMAND...
supervise() {
	local name=$1
	shift
	while [ ! -e "$T/stop" ]; do
		"$@" &
		echo $! >"$T/$name.pid"
		wait $!
		sleep 0.1
	done
}
snap_config
sed -i '/^.fetcher/a start = false' "$SNAP.toml"
background fetcher supervise fetcher "$ESTARGZD" --socket "$SNAP.fetch.sock"
LOOPS=$BG_PID
background snapshotter supervise snapshotter "$ESTARGZ_SNAPSHOTTER" \
	--config "$SNAP.toml"
LOOPS="$LOOPS $BG_PID"
ok "the snapshotter is up" wait_for 20 snap_reached

### What goes on meanwhile ###
SUM='cd /; find usr/bin usr/lib bin srv many random9M -type f 2>/dev/null |
	sort | xargs cat | sha256sum'
# again COMMAND...: as a kubelet does; what it does may meet a daemon that is down.
again() {
	local end=$(($(now_ms) + PATIENCE * 10000))
	until "$@"; do
		[ "$(now_ms)" -lt $end ] || return 1
		sleep 0.05
	done
}
start_c() {
	ct_start "$1" "$S" "$2" sleep inf && return
	ct_rm "$1" >/dev/null 2>&1
	return 1
}
# life ID TAG: an image is pulled, a container started, everything in it read
# and compared, and both go. Only what runs already must not fail.
life() {
	local id=$1 t=$2 got
	again rpull "$R:$t" || { echo "pull failed"; return 1; }
	again start_c "$id" "$R:$t" || { echo "start failed"; return 1; }
	got=$(ct_exec "$id" sh -c "$SUM") || { echo "read failed"; return 1; }
	[ "$got" = "${WANT[$t]}" ] || { echo "read: $got"; return 1; }
	again ct_rm "$id" || { echo "remove failed"; return 1; }
}
declare -A WANT
# want TAG LAYER...: what is in the layers' tars
want() {
	local t=$1 l
	shift
	mkdir "$T/want"
	for l; do
		tar -C "$T/want" -xf "$LAYERS/$l.tar" --wildcards './usr/bin*' \
			'./usr/lib*' './bin*' './srv*' './many*' './random9M' \
			2>/dev/null
	done
	WANT[$t]=$(sh -c "${SUM/cd \//cd \"$T/want\"}")
	rm -r "$T/want"
	diag "$t: ${WANT[$t]}"
}
want debian base special
want awkward bb awk special
want web1 bb awk web1

# No layer of it may stay from round to round. What containerd could not remove
# because the snapshotter was down it removes when it next removes a snapshot.
forget() {
	wait_for 20 snap_reached
	snapshots prepare gc >/dev/null
	snapshots rm gc
	"${CTR[@]}" images tag --force "$R:debian" gc >/dev/null
	"${CTR[@]}" images rm --sync "$R:awkward" "$R:web1" gc >/dev/null 2>&1
	wait_for 30 only_the_first || diag "$(n_lazy) layers stay"
	"$ESTARGZ" prune --root "$SNAP" >/dev/null 2>&1
}

# A container that stays from the first to the last.
ok "a container that stays" life first debian
again start_c stays "$R:debian"
STAYS=$(ct_pid stays)
N_FIRST=$(n_lazy)
FIRST_MOUNTS=$(lazy_mounts)
only_the_first() { [ "$(n_lazy)" -le "$N_FIRST" ]; }
stays_right() {
	echo 3 >/proc/sys/vm/drop_caches
	[ "$(ct_exec stays sh -c "$SUM")" = "${WANT[debian]}" ] &&
		[ "$(ct_pid stays)" = "$STAYS" ] && [ -d "/proc/$STAYS" ]
}

# Ours, by kind. Those of the layers of the image in question: a layer whose
# server dies again and again is given up, and the first container's are not
# to be.
is_first() {
	local m
	for m in $FIRST_MOUNTS; do
		grep -qszxF -- "$m" "/proc/$1/cmdline" && return
	done
	return 1
}
victims() {
	local p
	case $1 in
	snapshotter | fetcher) cat "$T/$1.pid" ;;
	monitor) for p in $(monitor_pids); do is_first "$p" || echo "$p"; done ;;
	worker) for p in $(worker_pids); do is_first "$p" || echo "$p"; done ;;
	both) cat "$T/snapshotter.pid" "$T/fetcher.pid" ;;
	esac
}
# A moment of a life, and somebody's last.
kill_in() {
	local kind=$1 pid=$2 ms=$3 v
	local end=$(($(now_ms) + ms))
	while [ "$(now_ms)" -lt $end ] && ! pid_gone "$pid"; do
		sleep 0.01
	done
	v=$(victims "$kind" | { [ "$kind" = both ] && cat || shuf -n 1; })
	# Not there yet: as soon as it is.
	until [ -n "$v" ] || pid_gone "$pid"; do
		sleep 0.01
		v=$(victims "$kind" | shuf -n 1)
	done
	[ -n "$v" ] || return 0
	# shellcheck disable=SC2086
	kill -9 $v 2>/dev/null
	KILLED=$((KILLED + 1))
}

# How long a life is that nobody disturbs.
forget
t0=$(now_ms)
ok "a life that nobody disturbs" life calm awkward
LIFE=$(($(now_ms) - t0))
diag "which takes $LIFE ms"

rounds() {
	local kind=$1 i t pid ms bad=0
	KILLED=0
	for ((i = 1; i <= KILLS; i++)); do
		forget
		t=awkward
		[ $((i % 3)) != 0 ] || t=web1
		ms=$((RANDOM % LIFE))
		life "$kind$i" "$t" >"$T/life" 2>&1 &
		pid=$!
		kill_in "$kind" "$pid" "$ms"
		wait "$pid" || {
			bad=$((bad + 1))
			diag "$kind killed after $ms ms, $t:"
			diag_file "$T/life" 5
			again ct_rm "$kind$i" >/dev/null 2>&1
		}
	done
	diag "$KILLED killed"
	is "$bad" 0 "$kind: killed $KILLS times, nobody noticed"
	ok "$kind: the container that stays reads right" stays_right
}
for kind in snapshotter fetcher both worker monitor; do
	rounds $kind
done
# The layers of the container that stays, once each.
for kind in worker monitor; do
	echo 3 >/proc/sys/vm/drop_caches
	ct_exec stays sh -c "$SUM" >"$T/read" 2>&1 &
	pid=$!
	p=$("${kind}_pids" | while read -r p; do ! is_first "$p" || echo "$p"; done |
		shuf -n 1)
	kill -9 $p
	wait $pid
	is "$(cat "$T/read")" "${WANT[debian]}" \
		"a $kind of a container's is killed while it reads"
	ok "which reads right afterwards" stays_right
done

### The end ###
diag "$(grep -c 'not mounted lazily' "$T/snapshotter.log") layers were not mounted lazily"
ok "the container goes" again ct_rm stays
drop_images >/dev/null
ok "and the layers" wait_for 60 no_lazy
: >"$T/stop"
# shellcheck disable=SC2046
kill $(cat "$T/snapshotter.pid" "$T/fetcher.pid")
for p in $LOOPS; do
	wait "$p"
done
ctd_stop
no_leaks
done_testing

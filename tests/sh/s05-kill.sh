#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# SIGKILL of the snapshotter, estargzd, monitors and workers, alone and
# together, while somebody reads an image: no byte is wrong, nobody is stuck,
# and all goes on. Then what a reboot leaves, and what is left behind.
# $KILLS of each kind (2); $SEED repeats a run's moments.
. "${top_srcdir:-.}/tests/lib.sh"
. "${top_srcdir:-.}/tests/containerd.sh"
. "${top_srcdir:-.}/tests/snap.sh"
requires_snapshotter
KILLS=${KILLS:-2}
SEED=${SEED:-$RANDOM}
RANDOM=$SEED
diag "SEED=$SEED KILLS=$KILLS"

# Two layers with something to read, and one between them.
mkdir -p "$T/f"
for c in small-files hardlinks chunks; do
	mkesgz make $c "$T/f/$c" >"$T/$c.json"
done
OCI=$T/oci
mkesgz oci "$OCI" img "$T/f/small-files" "$T/f/hardlinks" "$T/f/chunks" \
	>/dev/null || bail "mkesgz oci"
start_srv srv --oci "$OCI"
R=$SRV_ADDR/lab/kill
snap_start

pause() { sleep "0.$((RANDOM % 5))$((RANDOM % 90 + 10))"; }
one_of() {
	local v=("$@")
	[ $# = 0 ] || echo "${v[RANDOM % $#]}"
}
# The monitors are those whose parent is no mount.estargz.
mon_pids() {
	local p all
	all=" $(test_procs mount.estargz | xargs) "
	for p in $all; do
		[[ $all == *" $(ps -o ppid= -p "$p" | xargs) "* ]] || echo "$p"
	done
}
work_pids() {
	comm -23 <(test_procs mount.estargz | sort) <(mon_pids | sort)
}
# kill_now KIND...: one process of each; the snapshotter is started again.
kill_now() {
	local k pids=()
	for k; do
		case $k in
		snapshotter) pids+=("$SNAP_PID") ;;
		estargzd) pids+=($(test_procs estargzd)) ;;
		monitor) pids+=($(one_of $(mon_pids))) ;;
		worker) pids+=($(one_of $(work_pids))) ;;
		esac
	done
	[ ${#pids[@]} = 0 ] || kill -9 "${pids[@]}" 2>/dev/null
	[[ " $* " != *" snapshotter "* ]] || {
		wait "$SNAP_PID" 2>/dev/null
		snap_start
	}
}
# fresh: no snapshot, no cache; then the image is pulled and mounted.
fresh() {
	umount "$T/ro" 2>/dev/null
	sctl remove ro >/dev/null 2>&1
	remove_all && wait_for 20 nothing_left || return 1
	rm -rf "$SNAP"/layers
	srv_reset
	[ "$(lazypull img)" = "3 lazy" ] || return 1
	mount_image ro img "$T/ro"
}

### Killed while somebody reads ###
# killed KIND...: all reads are answered, and right.
killed() {
	local d="$* killed" i r why=
	ok "$d: an image is mounted" fresh || {
		diag_file "$T/snapshotter.log"
		return
	}
	srv_fault '{"kind":"slow","bps":6000000,"path":"/blobs/"}'
	background reader "$PYTHON" "$TOOLS/treecmp.py" --stack --no-ino \
		--jobs 4 --order random --block 65536 "$T/ro" \
		$(tars_of img)
	r=$BG_PID
	for ((i = 0; i < KILLS; i++)); do
		pause
		kill_now "$@"
	done
	srv_clear
	wait_for 120 pid_gone $r || kill -9 $r
	wait $r || why="reads failed"
	# With the monitor and the snapshotter, who has the session is gone.
	[[ $* != *snapshotter*monitor* ]] ||
		why=$(grep -E 'content|bytes read' "$T/reader.log")
	if [ -z "$why" ]; then
		pass "$d: no byte is wrong"
	else
		fail "$d: no byte is wrong"
		diag_file "$T/reader.log"
	fi
	umount "$T/ro" || umount -l "$T/ro"
	ok "$d: the next container sees all of it" \
		with_image img is_image "$T/ro" img
	is "$(n_lazy)" 3 "$d: each layer is mounted once"
}
killed snapshotter
m=$(mon_pids | sort | xargs)
kill_now snapshotter
ok "a new snapshotter answers" sctl stat "$(chain_id "$OCI" img)"
is "$(mon_pids | sort | xargs)" "$m" "and has the same monitors"
killed estargzd
killed monitor
killed worker
killed snapshotter estargzd
killed snapshotter worker
killed monitor worker
killed monitor estargzd
killed estargzd worker
killed snapshotter monitor
killed snapshotter estargzd monitor worker

### Killed while layers are mounted ###
bad=0
for i in 1 2 3 4; do
	umount "$T/ro" 2>/dev/null
	sctl remove ro >/dev/null 2>&1
	remove_all && wait_for 20 nothing_left || bad=$((bad + 1))
	rm -rf "$SNAP"/layers
	background pull "$PYTHON" "$TOOLS/lazypull.py" -a "$SNAP.sock" "$OCI" \
		img "$R:img"
	p=$BG_PID
	sleep "0.0$((RANDOM % 90 + 10))"
	case $i in
	1) kill_now snapshotter ;;
	2) kill_now estargzd ;;
	3) kill_now monitor worker ;;
	4) kill_now snapshotter estargzd monitor worker ;;
	esac
	wait $p 2>/dev/null
	lazypull img >/dev/null
	with_image img is_image "$T/ro" img >"$T/cmp.log" 2>&1 || {
		bad=$((bad + 1))
		diag "round $i"
		diag_file "$T/pull.log"
		diag_file "$T/cmp.log"
	}
done
is $bad 0 "killed while layers are mounted: the next pull works"

### A reboot without network ###
ok "an image is mounted" fresh
ok "and read, so that all of it is here" is_image "$T/ro" img
umount "$T/ro"
# reboot: nothing of it runs, nothing is mounted, the registry is gone.
reboot() {
	local p m
	kill -9 "$SNAP_PID" $(product_procs) 2>/dev/null
	wait "$SNAP_PID" 2>/dev/null
	wait_for 10 no_product_procs
	for m in $(mounts_below "$SNAP"); do
		umount -l "$m"
	done
	rm -f "$SNAP".*sock
	snap_start
}
stop_pid "$SRV_PID"
reboot
three() { [ "$(n_lazy)" = 3 ]; }
ok "after a reboot all layers come back by themselves" wait_for 20 three
ok "and are the image, without network" with_image img is_image "$T/ro" img

# One layer's index is damaged, and cannot be made anew.
broken=$(layer_toc "$OCI" img 1)
truncate -s 100 "$SNAP/layers/sha256/${broken#*:}/chunks"
: >"$T/snapshotter.log"
reboot
two() { [ "$(n_lazy)" = 2 ]; }
ok "one broken layer does not hold up the others" wait_for 20 two
says_so() {
	grep -q "$(layer_digest "$OCI" img 1).*cannot be mounted again" \
		"$T/snapshotter.log"
}
ok "and is reported" wait_for 60 says_so
ok "the layer below it serves" sctl view v "$(chain_id "$OCI" img 1)"
like "$(sctl view w "$(chain_id "$OCI" img)" 2>&1)" \
	"UNAVAILABLE: .*$(layer_digest "$OCI" img 1)" \
	"who needs it is told which it is"

### What is left behind ###
start_srv srv2 --oci "$OCI"
R=$SRV_ADDR/lab/kill
sctl remove v >/dev/null
fds() { ls "/proc/$SNAP_PID/fd" | wc -l; }
cycle() {
	lazypull img >/dev/null && with_image img true && remove_all &&
		wait_for 20 nothing_left
}
remove_all
ok "all is given back" wait_for 20 nothing_left
ok "once more" cycle
# Threads that have been idle may go, and their descriptors.
before=$(fds)
for i in {1..8}; do cycle || break; done
is $i 8 "8 times pulled and removed"
as_before() { [ "$(fds)" -le "$before" ]; }
ok "no descriptor is left" wait_for 20 as_before || diag "$(fds), not $before"
is "$(ls "$SNAP/m" | wc -l)" 0 "no mount point is left"
snap_stop
kill $(test_procs estargzd)
no_leaks
done_testing

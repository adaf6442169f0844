#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A root whose name the kernel writes in another way in its list of mounts: what
# is mounted is found again, and shown.
. "${top_srcdir:-.}/tests/lib.sh"
. "${top_srcdir:-.}/tests/containerd.sh"
. "${top_srcdir:-.}/tests/snap.sh"
requires_snapshotter
requires_fs erofs
images web1

start_srv srv --oci "$IMAGES"
R=$SRV_ADDR/lab/img
ROOT="$T/a root#1"
WRITTEN="$T/a\\040root#1" # in mountinfo
SNAP_NATIVE=true
SNAP_BACKGROUND=true
snap_config
sed -i "s,^root = .*,root = \"$ROOT\"," "$SNAP.toml"
mounts_e() { awk '{print $1, $5}' /proc/self/mountinfo | grep -F "$WRITTEN/e/" | sort; }
native() { [ "$(mounts_e | wc -l)" = "$1" ]; }
shown() { "$ESTARGZ" status --json | jq --arg r "$ROOT/$1/" '[.[] | select(.target | startswith($r))] | length'; }
snap_start
is "$(lazypull web1)" "3 lazy" "an image is pulled"
ok "the kernel mounts its layers" wait_for 20 native 3
is "$(shown e)" 3 "which the status shows"
ids=$(mounts_e)
for s in TERM KILL; do
	kill "-$s" "$SNAP_PID"
	wait_for 20 pid_gone "$SNAP_PID"
	snap_start
	ok "SIG$s: the image is all there" with_image web1 is_image "$T/ro" web1
	is "$(mounts_e)" "$ids" "SIG$s: on the mounts of before"
done
ok "all snapshots go" remove_all
ok "and all mounts" wait_for 20 native 0
snap_end
no_leaks
done_testing

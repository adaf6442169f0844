#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Twenty containers read an image while its layers go from FUSE to the kernel:
# no error, no wrong byte, no process and no mount is left, round after round.
# $ROUNDS of each way to stack layers (3); $SEED repeats a run's moments.
. "${top_srcdir:-.}/tests/lib.sh"
. "${top_srcdir:-.}/tests/containerd.sh"
. "${top_srcdir:-.}/tests/snap.sh"
requires_snapshotter
requires_fs erofs
images web1
ROUNDS=${ROUNDS:-3}
SEED=${SEED:-$RANDOM}
diag "SEED=$SEED ROUNDS=$ROUNDS"

start_srv srv --oci "$IMAGES"
R=$SRV_ADDR/lab/img
SNAP_NATIVE=true
SNAP_BACKGROUND=true
mkdir "$T/c"

handover() {
	"$PYTHON" "$TOOLS/handover.py" run -a "$SNAP.sock" -r "$SNAP" \
		-s "$T/sums" -d "$T/c" -n "$ROUNDS" --seed "$SEED" \
		"$IMAGES" web1 "$R:web1" >"$T/out" 2>&1 && return
	diag_file "$T/out"
	diag_file "$T/snapshotter.log"
	return 1
}
named() { [ "$(jget "$T/out" ".named.$1")" -gt 0 ]; }

for how in auto fuse; do
	SNAP_MOUNT="metadata = \"$how\""
	rm -f "$SNAP.toml"
	snap_start
	[ -e "$T/sums" ] || {
		is "$(lazypull web1)" "3 lazy" "an image is pulled"
		ok "and as it should be" with_image web1 is_image "$T/ro" web1
		mount_image ref web1 "$T/ro"
		"$PYTHON" "$TOOLS/handover.py" sums "$T/ro" >"$T/sums"
		umount "$T/ro"
		ok "all of it goes" remove_all
		ok "and all mounts" wait_for 20 nothing_left
		rm -rf "$SNAP/layers"
	}
	ok "metadata = $how: $ROUNDS rounds" handover
	diag "$(cat "$T/out")"
	ok "metadata = $how: containers were on FUSE" named m
	ok "metadata = $how: and on the kernel's mounts" named e
	is "$(grep -c 'level=err\|stays on FUSE' "$T/snapshotter.log")" 0 \
		"metadata = $how: nothing is complained of"
	snap_end
done
no_leaks
done_testing

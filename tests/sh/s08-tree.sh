#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The tree of snapshots and their directories when their process is killed, and when the
# power is cut, at any moment: what was said to be done is done, and nothing
# is half there.
. "${top_srcdir:-.}/tests/lib.sh"
requires_root
requires_cmd "$PYTHON"
requires_fs overlay
SNAPLAB=$top_builddir/tests/tools/snaplab
[ -x "$SNAPLAB" ] || plan_skip "snaplab is not built"
SEED=${SEED:-$(date +%s)}
ROUNDS=${ROUNDS:-40}
diag "seed $SEED"

kills() { timeout 600 "$PYTHON" "$TOOLS/snapkill.py" "$SNAPLAB" "$@"; }

mkdir "$T/killed"
ok "$ROUNDS times SIGKILL" kills "$T/killed" "$ROUNDS" "$SEED"
truncate -s 96M "$T/disk"
mkdir "$T/cut"
if mkfs.ext4 -q "$T/disk" && mount -o loop "$T/disk" "$T/cut"; then
	ok "$((ROUNDS / 2)) power cuts" \
		kills "$T/cut" $((ROUNDS / 2)) "$SEED" "$T/disk"
	umount "$T/cut"
else
	skip "power cuts" "needs loop devices"
fi

### A state directory that cannot hold upper directories ###
mkdir -p "$T/o/lower" "$T/o/upper" "$T/o/work" "$T/o/m"
mount -t overlay -o "lowerdir=$T/o/lower,upperdir=$T/o/upper,workdir=$T/o/work" \
	overlay "$T/o/m" || bail "overlay"
like "$("$SNAPLAB" list "$T/o/m/state" 2>&1)" \
	'open: .*/o/m/state is on an overlayfs, .* put the state directory' \
	"an overlayfs is refused"
umount "$T/o/m"

### A full disk ###
mkdir "$T/full"
mount -t tmpfs -o size=12m tmpfs "$T/full"
ok "snapshots can be removed from a disk that is full of them" \
	"$SNAPLAB" full "$T/full/state"
like "$(cat "$T/.ok")" '^ENOSPC: ' "it was full"
is "$("$SNAPLAB" list "$T/full/state")" "" "nothing is left"
# Full of other things, from the start on.
background full "$SNAPLAB" run "$T/full/state" "$SEED" 1
made() {
	awk '/^C/ { n++ } /^R/ { n--; r++ } END { exit !(r && n > 3) }' \
		"$T/full.log"
}
ok "more is made" wait_for 20 made
kill -9 "$BG_PID"
wait "$BG_PID" 2>/dev/null
head -c 16M /dev/zero >"$T/full/zeros" 2>/dev/null
like "$("$SNAPLAB" list "$T/full/state" | head -n 1)" '^(committed|active) [ac]0-' \
	"there are some"
ok "they can be removed from a disk that is full" \
	"$SNAPLAB" empty "$T/full/state"
is "$("$SNAPLAB" list "$T/full/state")" "" "nothing is left"
umount "$T/full"
done_testing

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Newer containerds: 2, whose own `ctr image pull` is lazy by the transfer
# service, and 1.7.
. "${top_srcdir:-.}/tests/lib.sh"
. "${top_srcdir:-.}/tests/containerd.sh"
requires_containerd 2 1.7
images debian awkward jdk

start_srv srv --oci "$IMAGES"
R=$SRV_ADDR/lab/img
S=$SNAPSHOTTER

# by VERSION COMMAND: how it pulls lazily
by() {
	local v=$1 pull=$2 t=awkward x
	ctd_start "$v"
	diag "$("${CTR[@]}" version | grep Version | tr '\n' ' ')"
	snap_start
	LAZY=
	lazily debian "$pull" "$R:debian"
	is "$(run_in "$S" "$R:debian" python3 -c 'print(6 * 7)')" 42 \
		"$v: python runs"
	lazily "$t" "$pull" "$R:$t"
	SINCE=$(date +%s)
	ok "$v: overlayfs has it too" pull "$R:$t" overlayfs
	ok "$v: starts" ct_start s "$S" "$R:$t" sleep inf
	ok "$v: starts on overlayfs" ct_start o overlayfs "$R:$t" sleep inf
	ok "$v: the container sees the same tree" \
		same_root "$(ct_root s)" "$(ct_root o)"
	for x in s o; do
		ct_exec $x sh -c "$(cat "$TOOLS/mutate.sh")" >"$T/mutate.$x"
	done
	ok "$v: programs that write say the same" \
		diff "$T/mutate.o" "$T/mutate.s"
	ok "$v: and leave the same" same_root "$(ct_root s)" "$(ct_root o)"
	ok "$v: containers go" ct_rm s o
	drop_images >/dev/null
	ok "$v: layers go with the last image" wait_for 20 no_lazy
	snap_end
	ctd_stop
	no_leaks "$v: nothing is left"
}
by 2 pull
by 1.7 rpull
done_testing

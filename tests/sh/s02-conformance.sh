#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What containerd asks of every snapshotter: our socket, ours behind a containerd, and
# containerd's own overlayfs give the same answers.
. "${top_srcdir:-.}/tests/lib.sh"
. "${top_srcdir:-.}/tests/containerd.sh"
requires_containerd own
requires_cmd protoc

# suite NAME SOCKET [arguments]: its tests become ours.
suite() {
	local name=$1 socket=$2 rc line
	shift 2
	timeout 600 "$PYTHON" "$TOOLS/snapsuite.py" -a "$socket" "$@" \
		-w "$T/work-$name" -o "$T/$name.facts" >"$T/suite.log" 2>&1
	rc=$?
	while read -r line; do
		case $line in
		"ok - "*) pass "$name: ${line#ok - }" ;;
		"not ok - "*) fail "$name: ${line#not ok - }" ;;
		*) diag "${line#\# }" ;;
		esac
	done <"$T/suite.log"
	[ $rc -le 1 ] || fail "$name: the suite ends"
}

# Before there is a containerd, which collects what it does not know.
SNAP=$T/snap-own
snap_start
suite ours "$SNAP.sock"
ctd_start own
suite proxied "$CTD/c.sock" -n "$NS" -s estargz
suite overlayfs "$CTD/c.sock" -n "$NS" -s overlayfs

[ "$(wc -l <"$T/overlayfs.facts")" -gt 50 ] || fail "facts were noted"
for n in ours proxied; do
	ok "$n: what was seen is what overlayfs shows" \
		diff "$T/overlayfs.facts" "$T/$n.facts"
done

### What is left ###
snapctl() { timeout 60 "$PYTHON" "$TOOLS/snapctl.py" -a "$SNAP.sock" "$@"; }
n_dirs() { find "$SNAP/snapshots" -mindepth 1 -maxdepth 1 | wc -l; }
gone() { [ "$(snapctl list | wc -l)" = 0 ]; }
ok "containerd's collection takes what the suite left" wait_for 20 gone
ok "cleanup" snapctl cleanup
is "$(n_dirs)" 0 "no directory is left"
snap_end
ctd_stop
no_leaks
done_testing

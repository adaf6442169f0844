#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Debian's containerd: an image that was pulled lazily completes; containers of
# before go on, later ones run without a process of ours, also when the
# registry is gone and after a restart of everything.
. "${top_srcdir:-.}/tests/lib.sh"
. "${top_srcdir:-.}/tests/containerd.sh"
requires_containerd own
requires_fs erofs
[ "$SNAPSHOTTER" = estargz ] || plan_skip "is about our snapshotter"
images web1

start_srv srv --oci "$IMAGES"
R=$SRV_ADDR/lab/img
S=$SNAPSHOTTER
SNAP_NATIVE=true
SNAP_BACKGROUND=true
ctd_start own
snap_start

# lowers CONTAINER: what its root file system is made of, "e e e"
lowers() {
	snapshots mounts /mnt "$1" | sed -n 's/.*lowerdir=\([^, ]*\).*/\1/p' |
		tr : '\n' | sed -n "s,^$SNAP/\([a-z]*\)/.*,\1,p" | xargs
}
on() { # CONTAINER: of the mount that it runs on
	awk '$5 == "/" {print}' "/proc/$(ct_pid "$1")/mountinfo" |
		sed -n 's/.*lowerdir=\([^, ]*\).*/\1/p' | tr : '\n' |
		sed -n "s,^$SNAP/\([a-z]*\)/.*,\1,p" | xargs
}
native() { [ "$(n_native)" = "$1" ]; }
no_fuse() { no_lazy && no_mount_procs; }
works() {
	is "$(ct_exec "$1" /bin/busybox sh -c 'echo $((6 * 7))')" 42 "$2"
}

srv_fault '{"kind": "stall", "after": 0, "path": "/blobs/",
	"range": "bytes=[0-9]"}'
ok "an image is pulled" rpull "$R:web1"
is "$(n_lazy)" 3 "lazily"
srv_clear
ok "a container starts" ct_start old "$S" "$R:web1" /bin/busybox sleep 600
ok "the image completes" wait_for 30 native 3
ok "another container starts" ct_start new "$S" "$R:web1" \
	/bin/busybox sleep 600
is "$(on new)" "e e e" "on the kernel's mounts"
works old "the old one goes on"
works new "the new one works"
stop_pid "$SRV_PID"
ok "the old one ends" ct_rm old
ok "and no process of ours is left" wait_for 20 no_fuse
works new "the new one goes on"
snap_stop
works new "without a snapshotter"
snap_start
is "$(test_procs mount.estargz)" "" "and starts nothing"
is "$(run_in "$S" "$R:web1" /bin/busybox echo yes)" yes \
	"a container runs without a registry"
is "$(lowers new)" "e e e" "the mounts are what they were"
ok "the new one ends" ct_rm new
ok "the image goes" drop_images
all_gone() { no_native && no_fuse && [ -z "$(ls "$SNAP/e")" ]; }
ok "and all mounts" wait_for 60 all_gone
ctd_stop
snap_end
no_leaks
done_testing

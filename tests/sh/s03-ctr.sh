#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Ordinary snapshots by Debian's containerd: every command of "ctr snapshots", the
# unpacking of an ordinary image, a container of it; each beside overlayfs.
. "${top_srcdir:-.}/tests/lib.sh"
. "${top_srcdir:-.}/tests/containerd.sh"
requires_containerd own
requires_cmd docker-registry skopeo busybox
images awkward-src

start_registry
push "$IMAGES:awkward-src" lab/img:plain || bail "push"
R=$REG/lab/img:plain
ctd_start own
snap_start
SINCE=$(date +%s)

# both COMMAND...: with each snapshotter; what is printed, without what is theirs
# alone, goes to $T/out.S
both() {
	local s
	for s in "$SNAPSHOTTER" overlayfs; do
		"${CTR[@]}" snapshots --snapshotter "$s" "$@" \
			>"$T/out.$s" 2>&1 </dev/null
		echo "exit $?" >>"$T/out.$s"
		sed -i -E "s,$CTD/root/[^ ,]*overlayfs/snapshots/[0-9]+,SNAP,g
			s,$SNAP/snapshots/[0-9]+,SNAP,g
			s/index=off,//
			s/[0-9-]+T[0-9:.]+Z/TIME/" "$T/out.$s"
	done
}
# alike DESC COMMAND...: both say the same; what, is in $T/out.estargz
alike() {
	local d=$1
	shift
	both "$@"
	ok "$d" diff "$T/out.overlayfs" "$T/out.$SNAPSHOTTER"
}
said() { like "$(cat "$T/out.$SNAPSHOTTER")" "$1" "it says: $1"; }
# on_each SNAPSHOT COMMAND...: on it, mounted at $T/m
on_each() {
	local snap=$1 s
	shift
	mkdir -p "$T/m"
	for s in "$SNAPSHOTTER" overlayfs; do
		"${CTR[@]}" snapshots --snapshotter "$s" mounts "$T/m" "$snap" \
			>"$T/.mounts" && sh "$T/.mounts" || return 1
		"$@" || return 1
		umount "$T/m" || return 1
	done
}
fill() {
	echo one >"$T/m/one" && echo two >"$T/m/two" && mkdir "$T/m/d" &&
		echo deep >"$T/m/d/deep" && ln "$T/m/one" "$T/m/d/one" &&
		chown 5:6 "$T/m/two"
}
change() {
	rm -r "$T/m/d" "$T/m/two" && mkdir "$T/m/d" && echo 1 >"$T/m/one" &&
		ln -s one "$T/m/s"
}

### Life of a snapshot ###
alike "prepare" prepare a ""
ok "mounts: it can be written to" on_each a fill
alike "usage of an active one" usage a
said '^a '
alike "commit" commit base a
alike "what was committed is gone" info a
said 'snapshot a: not found|not found'
alike "prepare on a parent" prepare b base
said 'exit 0'
ok "mounts: an overlay can be written to" on_each b change
alike "the same key again" prepare b base
said 'already exists'
alike "a parent that is not there" prepare c nobody
said 'not found'
# A view of ctr's own has no label that keeps it.
for s in "$SNAPSHOTTER" overlayfs; do
	ok "view with $s" "$PYTHON" "$TOOLS/snapctl.py" -a "$CTD/c.sock" \
		-n "$NS" -s "$s" -l containerd.io/gc.root=x view v base
done
alike "mounts of a view" mounts "$T/m" v
said 'ro'
alike "rm of a view" rm v
said 'exit 0'
# In any order.
words() { tr , '\n' <"$T/out.$1" | sort; }
both label b lab.key=value lab.other=more
ok "label" diff <(words overlayfs) <(words "$SNAPSHOTTER")
alike "info" info b
said '"lab.key": "value"'
both label b lab.other=
ok "a label that goes" diff <(words overlayfs) <(words "$SNAPSHOTTER")
alike "info" info b
said '"Parent": "base"'
alike "tree" tree
said '\\_ b'
both ls
ok "ls" diff <(sort "$T/out.overlayfs") <(sort "$T/out.$SNAPSHOTTER")
said '^b +base +Active'
alike "removal of a parent" rm base
said 'remove|child'

# The archives of what b changed.
for s in "$SNAPSHOTTER" overlayfs; do
	"${CTR[@]}" snapshots --snapshotter "$s" diff base b >"$T/$s.tar.gz" &&
		tar -tvzf "$T/$s.tar.gz" --full-time >"$T/$s.tar.list"
	sed -i -E 's/[0-9]{4}-[0-9-]+ [0-9:.]+//' "$T/$s.tar.list"
done
ok "diff: the same archive" diff "$T/overlayfs.tar.list" \
	"$T/$SNAPSHOTTER.tar.list"
like "$(cat "$T/$SNAPSHOTTER.tar.list")" '\.wh\.two' "it has the whiteout"

alike "rm" rm b
said 'exit 0'
# containerd's collection does not tell a parent that a child has gone, and diff has
# made some: so base cannot be removed, but it can go as they did.
both label base containerd.io/gc.root=

### An ordinary image ###
ok "pull" pull "$R"
ok "overlayfs pulls it too" pull "$R" overlayfs
n=$(n_layers "$IMAGES" awkward-src)
is "$(snapshots ls | grep -c '^sha256.*Committed')" "$n" "a snapshot a layer"
ok "a view of all of it" eval '
	with_view overlayfs "$(chain_id "$IMAGES" awkward-src)" "$T/vo" \
	with_view "$SNAPSHOTTER" "$(chain_id "$IMAGES" awkward-src)" "$T/vs" \
	same_root --ignore-xattr user.overlay.opaque "$T/vs" "$T/vo"'
"${CTR[@]}" snapshots --snapshotter "$SNAPSHOTTER" usage | grep ^sha256 |
	sort >"$T/usage.ours"
"${CTR[@]}" snapshots --snapshotter overlayfs usage | grep ^sha256 |
	sort >"$T/usage.theirs"
ok "usage of each layer" diff "$T/usage.theirs" "$T/usage.ours"
ok "a second pull" pull "$R"
is "$(run_in "$SNAPSHOTTER" "$R" busybox echo it runs)" "it runs" "a container"
ok "a container that stays" ct_start box "$SNAPSHOTTER" "$R" sleep inf
ct_exec box sh -c 'echo new >/etc/passwd; rm -r /opt; mkdir /opt; ln /bin/busybox /b'
is "$(ct_exec box sh -c 'cat /etc/passwd; ls -a /opt | wc -l')" \
	"$(printf 'new\n2')" "it can write"

### The snapshotter is killed under it ###
kill -9 "$SNAP_PID"
wait "$SNAP_PID" 2>/dev/null
is "$(ct_exec box cat /etc/passwd)" new "the container goes on"
not_ok "a new one cannot start" run_in "$SNAPSHOTTER" "$R" busybox true
snap_start
is "$(ct_exec box cat /etc/passwd)" new "the container went on"
is "$(run_in "$SNAPSHOTTER" "$R" busybox echo again)" again "another container"

### The end ###
ok "the container goes" ct_rm box
drop_images >/dev/null
n_dirs() { find "$SNAP/snapshots" -mindepth 1 -maxdepth 1 | wc -l; }
no_dirs() { [ "$(n_dirs)" = 0 ]; }
is "$(snapshots ls | wc -l)" 1 "with the image its snapshots go"
ok "and their directories" wait_for 20 no_dirs
snap_end
ctd_stop
no_leaks
done_testing

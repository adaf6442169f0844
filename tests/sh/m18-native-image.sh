#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# An image whose layers are complete: overlayfs over the kernel's EROFS, with no
# process, the registry down. What is not complete: merged metadata of the
# kernel's over FUSE, or FUSE alone.
# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/../..}/tests/lib.sh"
requires_mount
requires_fs erofs
requires_fs overlay
requires_cmd jq skopeo docker-registry
at_cleanup() { chattr -i "$STATE/layers" 2>/dev/null; }
images small

M=$T/m
mkdir -p "$M"
blobs=()
for ((i = 0; i < $(n_layers "$IMAGES" small); i++)); do
	blobs+=("$(layer_blob "$IMAGES" small "$i")")
done
# A layer that the image has twice is mounted once.
N=$(printf '%s\n' "${blobs[@]}" | sort -u | wc -l)
dir_of() { echo "$STATE/layers/sha256/$(layer_toc "$IMAGES" small "$1" | cut -d : -f 2)"; }
states() { "$ESTARGZ" status --json | jq -r --arg t "$M" '.[] | select(.target == $t).state'; }
complete() { [ "$(states | sort | uniq -c | tr -s ' ')" = " $1 complete" ]; }
monitors() { monitor_pids | wc -l; }

options() { findmnt -no FS-OPTIONS "$M"; }
# Whether the kernel takes merged metadata: found out by the first mount.
check_merged() {
	if [ $MERGED = 1 ]; then
		like "$(options)" "lowerdir=$N::" "$1: merged metadata"
	else
		skip "$1: merged metadata" "the kernel cannot"
	fi
}

start_registry
push "$IMAGES:small" lab/small:1 || bail "push"
REF=$REG/lab/small@sha256:$(sha256sum <"$(manifest_of "$IMAGES" small)" | cut -d ' ' -f 1)
start_estargzd
ok "mounts from a registry" mount_esgz "$REF" "$M" plain_http
MERGED=0
[[ $(options) != *::* ]] || MERGED=1
# Since when data without metacopy=on is found.
[ "$(printf '%s\n' 6.16 "$(uname -r)" | sort -V | head -n 1)" != 6.16 ] ||
	is $MERGED 1 "with merged metadata, since Linux 6.16"
is "$(find "$STATE/layers" -name 'tmp.*' -o -name 'meta.*')" "" "which has no name any more"
is "$(mounts_below "$T" | wc -l)" 1 "one mount"
ok "the tree is the tars', while it comes" treecmp --stack --no-ino --jobs 2 "$M" "${blobs[@]}"
ok "all of it comes" wait_for 60 complete "$N"
is "$(monitors)" "$N" "a process a layer"
"$PYTHON" "$TOOLS/listtree.py" "$M" | sed 's/|[0-9]* /|/' >"$T/fuse.list"
ok "unmounts" umount_esgz "$M"
stop_estargzd
stop_pid "$REG_PID"
no_leaks "nothing is left"

ok "mounts again, the registry down, no fetcher" mount_esgz "$REF" "$M" plain_http
is "$(findmnt -no FSTYPE "$M")" overlay "an overlayfs"
is "$(product_procs)" "" "no process"
is "$(mounts_below "$T" | wc -l)" 1 "one mount"
is "$("$ESTARGZ" status --json | jq -c --arg t "$M" '.[] | select(.target == $t) |
	[.mount, .layers, .layers_erofs, .state]')" "[\"overlay\",$N,$N,\"complete\"]" "status knows"
like "$("$ESTARGZ" status | grep -A 3 "^$M\$")" "$N of $N complete, by EROFS" "and for people"
ok "the tree is the tars'" treecmp --stack --no-ino --order random --jobs 2 "$M" "${blobs[@]}"
"$PYTHON" "$TOOLS/listtree.py" "$M" | sed 's/|[0-9]* /|/' >"$T/erofs.list"
ok "as FUSE shows it" diff "$T/fuse.list" "$T/erofs.list"
is "$("$ESTARGZ" prune --root "$STATE" --json | jq -c '[.layers_removed, .layers_used]')" \
	"[0,$N]" "prune takes none of them"
ok "unmounts" umount_esgz "$M"
is "$(ls "/run/estargz/images" 2>/dev/null | while read -r p; do
	kill -0 "$p" 2>/dev/null || echo "$p"; done)" "" "no directory of a process that ended"

background fg "$MOUNT_ESTARGZ" -f "$REF" "$M" -o "$(mount_opts plain_http)"
ok "in the foreground" wait_for 20 is_mounted "$M"
kill "$BG_PID"
ok "... told to end" wait_for 10 pid_gone "$BG_PID"
not_ok "... unmounts" is_mounted "$M"

# The bitmap of one layer is torn: that one by FUSE, from the layout.
truncate -s 10 "$(dir_of 1)/present"
start_estargzd again
ok "one is not whole: mounts" mount_esgz "oci:$IMAGES:small" "$M"
check_merged "one is not whole"
[ $MERGED = 1 ] && n=$N || n=1
is "$(monitors)" $n "one is not whole: $n processes"
ok "the tree is the tars'" treecmp --stack --no-ino --jobs 2 "$M" "${blobs[@]}"
ok "it becomes complete" wait_for 30 complete $n
ok "unmounts" umount_esgz "$M"
ok "and its process ends" wait_for 10 no_mount_procs
ok "nonative: mounts" mount_esgz "oci:$IMAGES:small" "$M" nonative
is "$(monitors)" "$N" "nonative: a process a layer"
unlike_merged() { [[ $(options) != *::* ]]; }
ok "nonative: no merged metadata" unlike_merged
ok "unmounts" umount_esgz "$M"


# Layers with the other kind of opaque directories have caches of their own.
ok "opaque=user: mounts" mount_esgz "oci:$IMAGES:small" "$M" \
	opaque=user,nobackground,noprefetch
check_merged "opaque=user"
like "$(options)" userxattr "opaque=user: userxattr"
ok "opaque=user: the tree is the tars'" treecmp --stack --no-ino --jobs 2 "$M" "${blobs[@]}"
ok "unmounts" umount_esgz "$M"

# There is no place for it: the layers as they are.
truncate -s 10 "$(dir_of 1)/present"
if chattr +i "$STATE/layers" 2>/dev/null; then
	ok "no room for merged metadata: mounts" mount_esgz "oci:$IMAGES:small" "$M"
	chattr -i "$STATE/layers"
	ok "... without" unlike_merged
	ok "... the tree is the tars'" treecmp --stack --no-ino --jobs 2 "$M" "${blobs[@]}"
	ok "unmounts" umount_esgz "$M"
else
	skip "no room for merged metadata" "chattr +i"
fi
ok "processes end" wait_for 10 no_mount_procs

# What a front that was killed has left.
( : ) &
dead=$!
wait "$dead"
mkdir -p "/run/estargz/images/$dead/0"
"$top_builddir/tests/tools/erofs-sample" mount "$(dir_of 0)/layer.erofs" \
	"/run/estargz/images/$dead/0" >/dev/null
ok "mounts beside a dead one" mount_esgz "oci:$IMAGES:small" "$M"
not_ok "which is taken away" test -e "/run/estargz/images/$dead"
umount_esgz "$M"
stop_estargzd
no_leaks
done_testing

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Complete layers are mounted by the kernel's EROFS: no process, no network, the
# same tree. What is not complete, durable and whole is not.
# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/../..}/tests/lib.sh"
requires_mount
requires_fs erofs
requires_cmd jq curl setpriv

M=$T/m
BOOT_ID=/proc/sys/kernel/random/boot_id
undo() { umount "$BOOT_ID" 2>/dev/null; }
at_cleanup() { undo; }
type_of() { findmnt -n -o FSTYPE --mountpoint "$1"; }
dir_of() { echo "$STATE/layers/sha256/${1#sha256:}"; }
list() { "$PYTHON" "$TOOLS/listtree.py" "$1"; }
status() {
	"$ESTARGZ" status --json | jq -c --arg t "$M" '.[] | select(.target == $t)' |
		jq -c "$1"
}
complete() { [ "$(status .state)" = '"complete"' ]; }
# NAME KB of each EROFS that is read from a file
read_aheads() { grep -H . /sys/class/bdi/erofs-*/read_ahead_kb 2>/dev/null | tr : ' ' | sort; }
disk_ahead() {
	local d
	d=/sys/dev/block/$(stat -c %Hd:%Ld "$T")
	cat "$d/queue/read_ahead_kb" 2>/dev/null ||
		cat "$d/../queue/read_ahead_kb" 2>/dev/null || echo 128
}
mkdir -p "$T/f" "$M"
chmod 711 "$T"
for kind in acls xattrs special hardlinks whiteouts few-files; do
	mkesgz make $kind "$T/f/$kind" >"$T/$kind.json" || bail mkesgz
done
start_srv srv --files "$T/f"
start_estargzd # a private one would stay a second longer than each mount
url() { echo "$SRV_URL/f/$1"; }
toc() { jget "$T/$1.json" .toc_digest; }
# fill KIND: a whole cache, by FUSE
fill() {
	mount_esgz "$(url "$1")" "$M" "toc_digest=$(toc "$1")${2:-}" &&
		wait_for 20 complete
}

### One layer ###

D=$(toc few-files)
ok "mounts" fill few-files
is "$(type_of "$M") $(status '.mount')" 'fuse.estargz "fuse"' "by FUSE, first"
ok "nobody can write to it any more" wait_for 20 no_writers "$(dir_of "$D")/layer.erofs"
is "$(stat -c %a "$(dir_of "$D")/layer.erofs") $(status .worker_deaths)" "400 0" "by a worker in another's place"
ok "the tree is the tar's" treecmp "$M" "$T/f/few-files"
ok "unmounts" umount_esgz "$M"
stop_estargzd
stop_pid "$SRV_PID"
no_leaks "nothing is left"
read_aheads >"$T/bdi.before"
ok "mounts again, without a server" mount_esgz "$(url few-files)" "$M" \
	"toc_digest=$D,nosuid,nodev,noexec"
is "$(type_of "$M")" erofs "by EROFS"
ok "with no process" no_product_procs
is "$(cat "$T/mount.err")" "" "without a word"
# The kernel does not say whose is which: ours is among those that are new.
like "$(read_aheads | comm -13 "$T/bdi.before" - | sed 's/.* //' | sort -u | xargs)" \
	"(^| )$(disk_ahead)( |$)" "it reads as far ahead as its disk"
ok "the tree is the tar's, still" treecmp --order random --jobs 2 "$M" "$T/f/few-files"
like ",$(findmnt -no VFS-OPTIONS "$M")," ',ro,.*nosuid,nodev,noexec' "with the options' flags"
like "$(status .)" '"mount":"erofs","how":"(file|file, direct|loop)"' "status: how"
is "$(status '.state, .toc_digest, .cache, .digest' | tr '\n' ' ')" \
	"\"complete\" \"$D\" \"$(dir_of "$D")\" \"\" " "status: what"
like "$("$ESTARGZ" status | grep -A 5 "^$M\$")" "EROFS \\(" "and for people"
is "$("$ESTARGZ" prune --root "$STATE" --json | jq -c '[.layers_removed, .layers_used]')" \
	'[0,1]' "prune leaves it, and calls it used"
# Nothing shows a mount that is below another file system alone.
mkdir "$T/o" "$T/l"
ok "an overlayfs over it" mount -t overlay overlay -o "lowerdir=$M:$T/l" "$T/o"
ok "the mount is detached" umount_esgz "$M"
is "$("$ESTARGZ" prune --root "$STATE" --json | jq -c '[.layers_removed, .layers_used]')" \
	'[0,1]' "prune leaves that, too"
umount "$T/o"
# The kernel lets go of the file a moment later.
unused() {
	[ "$("$ESTARGZ" prune --root "$STATE" -n --json | jq .layers_used)" = 0 ]
}
ok "unused when it is gone" wait_for 5 unused

### What has FUSE ###

start_estargzd again

fuse_with() {
	mount_esgz "$T/f/few-files" "$M" "toc_digest=$D,$1" && [ "$(type_of "$M")" = fuse.estargz ]
}
for o in nonative "events=$T/ev" noreadahead; do
	ok "${o%%=*}: by FUSE" fuse_with "$o"
	umount_esgz "$M"
done
ok "in the foreground: the kernel's" background fg "$MOUNT_ESTARGZ" -f "$T/f/few-files" "$M" \
	-o "$(mount_opts "toc_digest=$D")"
ok "... is there" wait_for 10 is_mounted "$M"
is "$(type_of "$M")" erofs "... of EROFS"
ok "... a process waits" kill -0 "$BG_PID"
umount "$M"
ok "... until it is unmounted" wait_for 10 pid_gone "$BG_PID"
background fg "$MOUNT_ESTARGZ" -f "$T/f/few-files" "$M" -o "$(mount_opts "toc_digest=$D")"
wait_for 10 is_mounted "$M"
kill "$BG_PID"
ok "... or told to end" wait_for 10 pid_gone "$BG_PID"
not_ok "... and the mount with it" is_mounted "$M"

### The same tree ###

for kind in acls xattrs special hardlinks whiteouts; do
	d=$(toc $kind)
	mount_esgz "$T/f/$kind" "$M" "toc_digest=$d" && wait_for 20 complete &&
		list "$M" | sed '/^\.|/s/|[0-9]* /|/' >"$T/fuse.list"
	if [ $kind = acls ]; then
		setpriv --reuid 12345 --clear-groups cat "$M/f" "$M/d/g" >"$T/fuse.given" 2>&1
		setpriv --reuid 12346 --clear-groups cat "$M/f" >"$T/fuse.denied" 2>&1
	fi
	umount_esgz "$M"
	wait_for 10 no_mount_procs
	mount_esgz "$T/f/$kind" "$M" "toc_digest=$d"
	is "$(type_of "$M")" erofs "$kind: by EROFS"
	list "$M" | sed '/^\.|/s/|[0-9]* /|/' >"$T/erofs.list"
	ok "$kind: as FUSE shows it, inode numbers and attributes too" \
		diff "$T/fuse.list" "$T/erofs.list"
	if [ $kind = acls ]; then
		setpriv --reuid 12345 --clear-groups cat "$M/f" "$M/d/g" >"$T/given" 2>&1
		setpriv --reuid 12346 --clear-groups cat "$M/f" >"$T/denied" 2>&1
		is "$(cat "$T/given" "$T/fuse.given")" \
			$'for some\nbelow\nfor some\nbelow' "who is in the list may"
		is "$(grep -c 'Permission denied' "$T/denied" "$T/fuse.denied" |
			cut -d : -f 2 | tr '\n' ' ')" "1 1 " "others may not"
	fi
	umount_esgz "$M"
done

### Through a loop device ###

# A state directory where the kernel cannot have files mounted: on overlayfs.
mkdir -p "$T/up" "$T/work" "$T/ov"
if mount -t overlay overlay -o "lowerdir=$T/l,upperdir=$T/up,workdir=$T/work" "$T/ov" &&
	losetup -f >/dev/null 2>&1; then
	STATE=$T/ov/state
	mount_esgz "$T/f/few-files" "$M" "toc_digest=$D" && wait_for 20 complete
	umount_esgz "$M"
	wait_for 10 no_mount_procs
	ok "a cache on overlayfs" mount_esgz "$T/f/few-files" "$M" "toc_digest=$D"
	is "$(type_of "$M") $(status '.how')" 'erofs "loop"' "by a loop device"
	ok "with the tar's tree" treecmp "$M" "$T/f/few-files"
	dev=$(findmnt -no SOURCE "$M")
	umount_esgz "$M"
	gone() { ! grep -qsF "$T" "/sys/block/${dev##*/}/loop/backing_file"; }
	ok "which goes with it" wait_for 10 gone
	STATE=$T/state
else
	skip "a cache on overlayfs" "no overlayfs or loop device"
fi
umount "$T/ov" 2>/dev/null

### What is not whole ###

start_srv srv2 --files "$T/f"
img=$(dir_of "$D")
# by_fuse DESC: the mount is by FUSE, and right
by_fuse() {
	ok "$1: mounts" mount_esgz "$(url few-files)" "$M" "toc_digest=$D"
	is "$(type_of "$M")" fuse.estargz "$1: by FUSE"
	ok "$1: with the tar's tree" treecmp "$M" "$T/f/few-files"
	ok "$1: which is complete, then" wait_for 20 complete
	ok "$1: and is not written any more" wait_for 20 no_writers "$img/layer.erofs"
	umount_esgz "$M"
	wait_for 10 no_mount_procs
}
dd if=/dev/zero of="$img/layer.erofs" bs=1200 seek=1 count=1 conv=notrunc status=none
by_fuse "metadata is damaged"
like "$(cat "$T/mount.err")" '^level=warn .*not mounted by the kernel' "which is said"
dd if=/dev/urandom of="$img/chunks" bs=100 seek=3 count=1 conv=notrunc status=none
by_fuse "the chunk table is damaged"
truncate -s -4096 "$img/layer.erofs"
by_fuse "it is cut short"
truncate -s 100 "$img/present"
by_fuse "the bitmap is cut short"
: >"$img/present"
by_fuse "the bitmap is empty"
rm "$img/chunks"
by_fuse "there is no chunk table"
# One bit that was not synced, in a file of another boot: COMPLETE was too early.
"$PYTHON" - "$img/present" <<'END'
import struct, sys
with open(sys.argv[1], "r+b") as f:
    b = bytearray(f.read())
    n = struct.unpack_from("<Q", b, 32)[0]
    words = (n + 63) // 64
    b[128 + 8 * words] &= 0xfe          # the first of durable
    b[16:32] = bytes(16)
    f.seek(0)
    f.write(b)
END
by_fuse "a chunk is not durable"
# Sealed or not.
chmod 600 "$img/layer.erofs"
background writer bash -c "exec sleep 1000 8<>$img/layer.erofs"
W=$BG_PID
wait_for 10 [ -e "/proc/$W/fd/8" ]
chmod 400 "$img/layer.erofs"
by_fuse "somebody can write to it"
like "$(cat "$T/mount.err")" 'layer.erofs: is open for writing' "which is said, too"
stop_pid "$W"
chmod 600 "$img/layer.erofs"
ok "whole again: mounts" mount_esgz "$(url few-files)" "$M" "toc_digest=$D"
is "$(type_of "$M") $(stat -c %a "$img/layer.erofs")" "erofs 400" "whole again: by EROFS"
umount_esgz "$M"
# Where nothing can be written, and all is sealed.
mkdir "$T/ro"
mount -o bind,ro "$STATE" "$T/ro"
STATE=$T/ro
ok "on what is read-only: mounts" mount_esgz "$(url few-files)" "$M" "toc_digest=$D"
is "$(type_of "$M")" erofs "on what is read-only: by EROFS"
umount_esgz "$M"
STATE=$T/state
umount "$T/ro"
echo 00000000-1111-2222-3333-444444444444 >"$T/boot_id"
mount --bind "$T/boot_id" "$BOOT_ID"
ok "after a boot: mounts" mount_esgz "$(url few-files)" "$M" "toc_digest=$D"
undo
is "$(type_of "$M")" erofs "after a boot: by EROFS"
umount_esgz "$M"
stop_estargzd
no_leaks
done_testing

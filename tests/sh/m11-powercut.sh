#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# After a power cut what was not synced is verified before it is believed. The
# cut is played: everything is killed before the first sync, pages of the cache
# file are taken away, and the machine has another boot id.
. "${top_srcdir:-.}/tests/lib.sh"
requires_mount
requires_cmd jq curl fallocate

BOOT_ID=/proc/sys/kernel/random/boot_id
M=$T/m
mkdir -p "$T/f"
mkesgz make few-files "$T/f/few" >"$T/few.json"
D=$(jget "$T/few.json" .toc_digest)
start_srv srv --files "$T/f"
URL=$SRV_URL/f/few
LAZY=nobackground,noprefetch,toc_digest=$D
undo() { umount "$BOOT_ID" 2>/dev/null; }
trap 'rc=$?; undo; (exit "$rc"); cleanup' EXIT

kill_all() {
	local p
	p=$(monitor_pids)
	[ -z "$p" ] || kill -9 $p
	wait_for 10 no_product_procs
	umount -l "$M"
}
sent() { srv_ctl "$SRV_URL/_ctl/sent"; }

# Not all of it: a layer that is complete is synced at once, the others every
# 10 s. Where that was too short, it is done again.
for i in 1 2 3 4 5; do
	rm -rf "$STATE"
	t0=$(now_ms)
	ok "mounts" mount_esgz "$URL" "$M" "$LAZY"
	ok "reads most" sh -c "cat $M/f[0-4] | wc -c"
	kill_all
	[ $(($(now_ms) - t0)) -gt 9000 ] || break
done
img=$(find "$STATE/layers" -name layer.erofs)
meta=$("$PYTHON" -c 'import struct, sys
h = open(sys.argv[1], "rb").read(232)
print(struct.unpack_from("<Q", h, 144)[0])' "${img%/*}/chunks")
size=$(stat -c %s "$img")
ok "the metadata ends inside the image" [ "$meta" -gt 0 -a "$meta" -lt "$size" ]
fallocate -p -o $(((meta + size) / 2 / 4096 * 4096)) -l "$size" "$img"
echo 00000000-1111-2222-3333-444444444444 >"$T/boot_id"
mount --bind "$T/boot_id" "$BOOT_ID"
srv_reset
ok "mounts after the cut" mount_esgz "$URL" "$M" "$LAZY"
undo
ok "every byte is right" treecmp "$M" "$T/f/few"
blob=$(stat -c %s "$T/f/few")
n=$(sent)
ok "what was lost is fetched ($n of $blob bytes)" [ "$n" -gt $((blob / 10)) ]
ok "what was not is not" [ "$n" -lt $((blob * 9 / 10)) ]
ok "unmounts" umount_esgz "$M"

# A clean end has synced: another boot costs nothing.
echo 00000000-1111-2222-3333-555555555555 >"$T/boot_id"
mount --bind "$T/boot_id" "$BOOT_ID"
srv_reset
ok "mounts after a clean end and a boot" mount_esgz "$URL" "$M" "$LAZY"
undo
ok "reads all again" treecmp "$M" "$T/f/few"
is "$(sent)" 0 "without a byte from the server"
ok "unmounts" umount_esgz "$M"

# A torn index is found by its digest and made anew.
for f in layer.erofs chunks present; do
	kill_all 2>/dev/null
	dd if=/dev/zero of="${img%/*}/$f" bs=100 seek=1 count=1 conv=notrunc \
		status=none
	[ "$f" != layer.erofs ] ||
		dd if=/dev/zero of="$img" bs=1200 seek=1 count=1 conv=notrunc \
			status=none
	ok "$f torn: mounts" mount_esgz "$URL" "$M" "$LAZY"
	ok "$f torn: every byte is right" treecmp "$M" "$T/f/few"
	ok "$f torn: unmounts" umount_esgz "$M"
done
no_leaks "leaves nothing"
done_testing

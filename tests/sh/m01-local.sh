#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Blobs in local files: the tree is the tar's; the cache is an EROFS image that
# stands on its own; a second mount needs nothing.
. "${top_srcdir:-.}/tests/lib.sh"
requires_mount
requires_cmd jq fsck.erofs
images small small-gz1 small-chunk64k small-landmark

M=$T/m

# check NAME BLOB TOC [treecmp options]: cold, then as a whole, then as EROFS.
check() {
	local name=$1 blob=$2 toc=$3 img d
	shift 3
	STATE=$T/state-$name
	ok "$name: mounts" mount_esgz "$blob" "$M" "toc_digest=$toc" || return
	ok "$name: the tree is the tar's" treecmp "$@" "$M" "$blob"
	ok "$name: unmounts" umount_esgz "$M"
	no_leaks "$name: leaves nothing"
	img=$(find "$STATE/layers" -name layer.erofs)
	ok "$name: fsck.erofs" fsck.erofs "$img"
	d=$T/k
	mkdir -p "$d"
	if mount -t erofs -o ro,loop "$img" "$d" 2>"$T/erofs.err"; then
		ok "$name: the kernel's EROFS shows the same" \
			treecmp "$@" "$d" "$blob"
		umount "$d"
	else
		fail "$name: the kernel mounts layer.erofs"
		diag_file "$T/erofs.err"
	fi
	ok "$name: mounts again" mount_esgz "$blob" "$M" "toc_digest=$toc"
	ok "$name: the tree is the tar's, from the cache" treecmp "$@" \
		--order reverse --block 4099 "$M" "$blob"
	ok "$name: unmounts again" umount_esgz "$M"
}

# For all of them: a private one stays a second longer than its mount.
start_estargzd
mkesgz all good "$T/good" || bail mkesgz
for b in "$T"/good/*.esgz; do
	n=$(basename "$b" .esgz)
	check "$n" "$b" "$(jget "$b.json" .toc_digest)"
done

for tag in small small-gz1 small-chunk64k small-landmark; do
	for l in 0 1 2 3; do
		check "$tag-$l" "$(layer_blob "$IMAGES" $tag $l)" \
			"$(layer_toc "$IMAGES" $tag $l)" --order random --jobs 4
	done
done
for tag in small-minchunk small-ctr-minchunk; do
	have_images $tag || {
		skip "$tag" "$(tail -n 1 "$T/images.log")"
		continue
	}
	for l in 0 2; do
		check "$tag-$l" "$(layer_blob "$IMAGES" $tag $l)" \
			"$(layer_toc "$IMAGES" $tag $l)" --jobs 2
	done
done
stop_estargzd
no_leaks
done_testing

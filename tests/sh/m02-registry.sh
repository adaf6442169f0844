#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Images in Debian's docker-registry and in an OCI layout on disk: the whole
# image, one layer by number and by digest, by tag and by manifest digest; the
# Debian image is what umoci unpacks.
. "${top_srcdir:-.}/tests/lib.sh"
requires_mount
requires_fs overlay
requires_cmd jq skopeo docker-registry umoci
images small debian

M=$T/m
start_registry
push "$IMAGES:small" lab/small:v1 || bail push
push "$IMAGES:debian" lab/deep/path/debian:v1 || bail push
MANIFEST=$(basename "$(manifest_of "$IMAGES" small)")
SRC=$REG/lab/small:v1

# tars_of TAG: the blobs of an image, lowest first.
tars_of() {
	local i n
	n=$(n_layers "$IMAGES" "$1")
	for ((i = 0; i < n; i++)); do
		layer_blob "$IMAGES" "$1" $i
	done
}

one() {
	local d=$1 src=$2 opts=$3 blob=$4
	STATE=$T/state-one
	rm -rf "$STATE"
	ok "$d: mounts" mount_esgz "$src" "$M" "plain_http,$opts" || return
	ok "$d: the tree is the tar's" treecmp "$M" "$blob"
	ok "$d: unmounts" umount_esgz "$M"
}
for l in 0 1 2 3 4; do
	one "layer=$l" "$SRC" "layer=$l" "$(layer_blob "$IMAGES" small $l)"
done
D=$(layer_digest "$IMAGES" small 2)
B=$(layer_blob "$IMAGES" small 2)
one "layer=sha256:…" "$SRC" "layer=$D" "$B"
one "by manifest digest" "$REG/lab/small@sha256:$MANIFEST" layer=2 "$B"
one "by tag and digest" "$SRC@sha256:$MANIFEST" layer=2 "$B"
one "with digest=" "$SRC" "layer=2,digest=$D" "$B"
one "a layer's own toc_digest=" "$SRC" \
	"layer=2,toc_digest=$(layer_toc "$IMAGES" small 2)" "$B"
one "a layer of an OCI layout" "oci:$IMAGES:small" layer=2 "$B"

refused "a layer past the last" "$SRC" 'layer' plain_http,layer=5
refused "a digest that the image has not" "$SRC" 'layer|sha256' \
	"plain_http,layer=sha256:$(printf '%064d' 1)"
refused "a wrong blob digest" "$SRC" 'digest' \
	"plain_http,layer=2,digest=sha256:$(printf '%064d' 1)"
refused "a wrong TOC digest" "$SRC" 'toc|digest' \
	"plain_http,layer=2,toc_digest=sha256:$(printf '%064d' 1)"
refused "a tag that is not there" "$REG/lab/small:none" \
	'not found|404|no such|unknown|does not have' plain_http
refused "a repository that is not there" "$REG/lab/none:v1" \
	'not found|404|no such|unknown|does not have' plain_http
refused "a manifest digest that is not there" \
	"$REG/lab/small@sha256:$(printf '%064d' 1)" \
	'not found|404|no such|unknown|does not have' plain_http
refused "an OCI layout that is not there" "oci:$T/nothing:x" 'no such|not found'
refused "a tag that the layout has not" "oci:$IMAGES:none" 'none'

# A whole image is a read-only overlay, the same whatever the cache holds.
# whole DESC SOURCE TAG "cold warm" [options of treecmp]
whole() {
	local d=$1 src=$2 tag=$3 states=$4 again
	shift 4
	STATE=$T/state-${d##* }
	for again in $states; do
		ok "$d, $again: mounts" mount_esgz "$src" "$M" plain_http ||
			return
		is "$(findmnt -no FSTYPE --mountpoint "$M")" overlay \
			"$d, $again: is an overlay"
		# shellcheck disable=SC2046
		ok "$d, $again: the tree is the layers' sum" \
			treecmp --stack --no-ino "$@" "$M" $(tars_of "$tag")
		not_ok "$d, $again: is read-only" touch "$M/new"
		ok "$d, $again: unmounts" umount_esgz "$M"
		no_leaks "$d, $again: leaves nothing"
	done
}
whole "whole image" "$SRC" small "cold warm"
whole "whole image of a layout" "oci:$IMAGES:small" small cold
whole "Debian" "$REG/lab/deep/path/debian:v1" debian cold --jobs 4

# What another implementation unpacks.
# (Its extraction drops xattrs that are empty.)
umoci unpack --image "$IMAGES:debian-src" "$T/bundle" >"$T/umoci.log" 2>&1 ||
	diag_file "$T/umoci.log"
ok "Debian mounts, warm" mount_esgz "$REG/lab/deep/path/debian:v1" "$M" plain_http
ok "Debian is what umoci unpacks" treecmp --dirs --no-ino --no-dir-nlink \
	--no-times --opaque '' --ignore-xattr user.empty "$M" "$T/bundle/rootfs"
ok "a program of the image runs" chroot "$M" /usr/bin/python3 -c \
	'import json, ssl, decimal'
ok "Debian unmounts" umount_esgz "$M"

if have_images small-zstd; then
	push "$IMAGES:small-zstd" lab/small:zstd
	for l in 0 2; do
		one "zstd:chunked, layer $l" "$REG/lab/small:zstd" "layer=$l" \
			"$(layer_blob "$IMAGES" small-zstd $l)"
	done
else
	skip "zstd:chunked" "$(tail -n 1 "$T/images.log")"
fi

# An image that is not eStargz is refused, and says why.
images small-src
push "$IMAGES:small-src" lab/plain:v1
refused "an ordinary image" "$REG/lab/plain:v1" 'toc|estargz|digest' plain_http
refused "an ordinary layer" "$REG/lab/plain:v1" 'toc|estargz|digest' \
	plain_http,layer=0
no_leaks
done_testing

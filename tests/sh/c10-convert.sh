#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# estargz convert: what becomes of layers, manifests, configs and indexes; what
# goes in front; transports; what is printed.
. "${top_srcdir:-.}/tests/lib.sh"
. "${top_srcdir:-.}/tests/convert.sh"
requires_convert
images small-src

L=$T/l
toc='containerd.io/snapshot/stargz/toc.digest'
empty=$LAYERS/empty.tar wh=$LAYERS/wh.tar
mkdir -p "$T/t/usr/lib/deep/er" "$T/t/etc"
for i in one two three four; do
	head -c 400000 /dev/urandom >"$T/t/usr/lib/$i.so"
done
echo deep >"$T/t/usr/lib/deep/er/x.so"
echo conf >"$T/t/etc/conf"
ln "$T/t/etc/conf" "$T/t/etc/conf2"
tar -C "$T/t" --format=posix --sort=name -cf "$T/t.tar" usr etc
t=$T/t.tar

### Layers of every kind ###
mkimage "$L:src" \
	"gzip:$t,members:$t,zstd:$LAYERS/special.tar,none:$wh,gzip:$empty,gzip:$t"
src=$MADE
converts "layers by gzip, several members, zstd and as they are" \
	"oci:$L:src" "oci:$L:dst"
dst=$CONVERTED
is "$dst" "$(root "$L" dst)" "the digest that is printed is the tag's"
ok "blobs, diff_ids, sizes and TOC digests are right" is_esgz "$L" "$dst"
is "$(doc "$L" "$dst" '[.layers[].mediaType] | unique[]')" \
	application/vnd.oci.image.layer.v1.tar+gzip "all are gzip"
is "$(config "$L" "$dst" 'del(.rootfs.diff_ids)')" \
	"$(config "$L" "$src" 'del(.rootfs.diff_ids)')" \
	"the config has what it had, but for diff_ids"
is "$(doc "$L" "$dst" 'del(.layers, .config)')" \
	"$(doc "$L" "$src" 'del(.layers, .config)')" \
	"the manifest too, but for layers and config"
is "$(layers "$L" "$dst" | sed -n '1p;6p' | uniq | wc -l)" 1 \
	"a layer that is there twice is one blob"
is "$(layers "$L" "$dst" | sed -n '1p;2p' | uniq | wc -l)" 1 \
	"so is one that was compressed otherwise"
is "$(root "$L" src)" "$src" "the source is still there"

# As GNU tar unpacks them.
same_tree() {
	local i=$1 a b
	a=$(layers "$L" "$src" | sed -n "$((i + 1))p")
	b=$(layers "$L" "$dst" | sed -n "$((i + 1))p")
	rm -rf "$T/a" "$T/b"
	mkdir "$T/a" "$T/b"
	zstd -dcf "$(blob "$L" "$a")" | tar_x "$T/a" &&
		gzip -dc "$(blob "$L" "$b")" | tar_x "$T/b" &&
		tar_c "$T/a" >"$T/a.tar" && tar_c "$T/b" | cmp - "$T/a.tar"
}
tar_x() {
	tar -C "$1" --numeric-owner --xattrs --xattrs-include='*' \
		--exclude=stargz.index.json --exclude='.*prefetch.landmark' \
		-xpf - 2>"$T/tar.err" || { cat "$T/tar.err"; return 1; }
	# The root need not be in the tar.
	touch -d @0 "$1"
}
tar_c() {
	tar -C "$1" --format=posix --numeric-owner --sort=name --xattrs \
		--xattrs-include='*' --pax-option='delete=[ac]time' -cf - .
}
for i in 0 2 3 4; do
	ok "layer $i is the same to GNU tar" same_tree $i
done

### The same bytes ###
for o in '--jobs 1' '--jobs 4' '--jobs 2 --progress=json'; do
	# shellcheck disable=SC2086
	converts "again with $o" $o "oci:$L:src" "oci:$T/again:x"
	is "$CONVERTED" "$dst" "... it is the same"
done
for o in '--chunk-size 4MiB' '--min-chunk-size 50000' '--compression-level 9'; do
	# shellcheck disable=SC2086
	converts "$o" --jobs 1 $o "oci:$L:src" "oci:$T/o1:x"
	a=$CONVERTED
	# shellcheck disable=SC2086
	convert --jobs 3 $o "oci:$L:src" "oci:$T/o3:x"
	is "$CONVERTED" "$a" "... with any --jobs the same"
	ok "... and right" is_esgz "$T/o3" "$a"
	ok "... but another image" [ "$a" != "$dst" ]
done

### docker's media types ###
mkimage --docker "$L:docker" "gzip:$t,zstd:$wh,none:$empty"
converts "an image with docker's media types" "oci:$L:docker" "oci:$L:d2"
is "$(doc "$L" "$CONVERTED" '[.. | .mediaType? // empty] |
	map(select(contains("docker"))) | length')" 0 \
	"gets those of OCI in a layout"
ok "and is right" is_esgz "$L" "$CONVERTED"

### Indexes ###
case $(dpkg --print-architecture) in
arm64) here=arm64 ;;
*) here=amd64 ;;
esac
mkimage --attest "$L:index" "linux/amd64=gzip:$t,none:$wh" \
	"linux/arm64/v8=gzip:$t,zstd:$empty" "linux/riscv64=gzip:$t"
index=$MADE
converts "an index" "oci:$L:index" "oci:$L:i1"
like "$(cat "$T/convert.err")" "only linux/$here is converted" \
	"says that it takes this machine's"
is "$(config "$L" "$CONVERTED" .architecture)" $here "and does"
is "$(doc "$L" "$CONVERTED" 'has("manifests")')" false "which is no index then"
converts "--platform" --platform linux/arm64 "oci:$L:index" "oci:$L:i2"
is "$(config "$L" "$CONVERTED" .architecture)" arm64 "takes another"
converts "--platform, twice" --platform linux/arm64 --platform linux/riscv64 \
	"oci:$L:index" "oci:$L:i3"
is "$(doc "$L" "$CONVERTED" '[.manifests[].platform.architecture] | sort |
	join(" ")')" "arm64 riscv64 unknown unknown" \
	"is an index of these, and of what is about them"
refuses "a platform that is not there" 'no image for linux/s390x: there is' \
	--platform linux/s390x "oci:$L:index" "oci:$T/none:x"
ok "... makes nothing" [ ! -e "$T/none" ]
converts "--all-platforms" --all-platforms --progress json "oci:$L:index" \
	"oci:$L:i4"
all=$CONVERTED
is "$(grep -c '"text":"converted' "$T/convert.err")" 3 \
	"a layer of all of them is converted once"
is "$(doc "$L" "$all" '[.manifests[].platform | .os + "/" + .architecture]')" \
	"$(doc "$L" "$index" '[.manifests[].platform | .os + "/" + .architecture]')" \
	"the index has what it had"
is "$(doc "$L" "$all" .annotations.unknown)" kept "annotations too"
is "$(doc "$L" "$all" '[.manifests[].annotations // {} |
	.["vnd.docker.reference.digest"] // empty] | sort[]')" \
	"$(doc "$L" "$all" '[.manifests[] |
		select(.platform.os == "linux") | .digest] | sort[]')" \
	"attestations are about the new images"
for m in $(doc "$L" "$all" '.manifests[] | select(.platform.os == "linux") |
	.digest'); do
	ok "an image of it is right" is_esgz "$L" "$m"
done
ok "skopeo copies all of it" skopeo copy -q --all "oci:$L:i4" "oci:$T/sk:x"
refuses "an index to docker-archive" 'takes one image' --all-platforms \
	"oci:$L:index" "docker-archive:$T/no.tar"
ok "... makes nothing" [ ! -e "$T/no.tar" ]

### In front ###
printf '# first\n/etc/conf\n\nusr/**/*.so\nnot/there\n' >"$T/list"
mkimage "$L:one" "gzip:$t"
one=$MADE
converts "--prefetch-list" --prefetch-list "$T/list" "oci:$L:one" "oci:$L:p1"
b=$(blob "$L" "$(layers "$L" "$CONVERTED")")
is "$(gzip -dc "$b" | tar -tf - | sed '/landmark/q' | grep -v '/$' | xargs)" \
	"etc/conf usr/lib/deep/er/x.so usr/lib/four.so usr/lib/one.so usr/lib/three.so usr/lib/two.so .prefetch.landmark" \
	"its files are in front, in its order"
is "$(names "$b" | sort)" "$(tar -tf "$t" | sort)" "nothing is lost or double"
like "$(cat "$T/convert.err")" 'listed, but not there: not/there \(line 5\)' \
	"what is not there is said"
printf '{"path":"%s","manifestDigest":"%s","layerIndex":%s}\n' \
	usr/lib/two.so "$one" 0 etc/conf "$src" 0 \
	usr/lib/one.so "$one" 3 >"$T/record"
converts "--record-in" --record-in "$T/record" "oci:$L:one" "oci:$L:p2"
b=$(blob "$L" "$(layers "$L" "$CONVERTED")")
is "$(gzip -dc "$b" | tar -tf - | sed '/landmark/q' | grep -v '/$' | xargs)" \
	"usr/lib/two.so etc/conf .prefetch.landmark" "its files are in front"
like "$(cat "$T/convert.err")" 'recorded, but not there: usr/lib/one.so' \
	"what is not there is said"
refuses "a list that makes no sense" 'prefetch-list .*: line 1: .\[. without' \
	--prefetch-list <(echo '[') "oci:$L:one" "oci:$T/none:x"
refuses "a record that is none" 'record-in .*: line 1' --record-in \
	<(echo '{') "oci:$L:one" "oci:$T/none:x"

### Reuse ###
converts "what is eStargz, with --reuse" --reuse "oci:$L:dst" "oci:$T/r1:x"
is "$CONVERTED" "$dst" "is what it was"
is "$(grep -c ' kept ' "$T/convert.err")" 4 "each layer is kept"
mkimage "$L:mixed" \
	"raw:$(blob "$L" "$(layers "$L" "$dst" | head -n 1)"),gzip:$wh"
like "$(convert "oci:$L:mixed" "oci:$T/r2:x" 2>&1; cat "$T/convert.err")" \
	'is not the one that' "a diff_id is compared, but"
converts "with --reuse" --reuse "oci:$L:mixed" "oci:$T/r3:x"
is "$(layers "$T/r3" "$CONVERTED" | head -n 1)" "$(layers "$L" "$dst" | head -n 1)" \
	"a layer without annotation is kept"
is "$(doc "$T/r3" "$CONVERTED" ".layers[0].annotations[\"$toc\"]")" \
	"$(doc "$L" "$dst" ".layers[0].annotations[\"$toc\"]")" \
	"and gets one"

### The trace of an image ###
imgctl() { timeout 60 "$top_builddir/tests/tools/imgctl" "$@"; }
type=application/vnd.estargz.trace.v1+json
printf '{"version":1,"layers":[],"reads":[]}' >"$T/trace"
ok "an image with a trace" imgctl refer "oci:$L:dst" "oci:$T/tr:x" $type "$T/trace"
converts "with --reuse" --reuse "oci:$T/tr:x" "oci:$T/tr1:x"
is "$(imgctl referrer "oci:$T/tr1:x" $type)" "$(cat "$T/trace")" "keeps it"
converts "without" "oci:$T/tr:x" "oci:$T/tr2:x"
not_ok "has none, because other bytes are elsewhere" \
	imgctl referrer "oci:$T/tr2:x" $type
not_ok "of a trace that no layer names nothing is said" \
	grep -q optimized "$T/convert.err"

# An image whose layers name it: by archives and without names the blob goes.
digest=sha256:$(sha256sum <"$T/trace" | cut -d' ' -f1)
doc "$L" "$dst" . | jq -c ".layers[].annotations.\"containerd.io/snapshot/estargz/trace.digest\" = \"$digest\"" >"$T/m"
cp -r "$T/tr" "$T/named"
d=$(sha256sum <"$T/m" | cut -d' ' -f1)
cp "$T/m" "$T/named/blobs/sha256/$d"
jq -c ".manifests |= [.[0] | .digest = \"sha256:$d\" | .size = $(stat -c %s "$T/m")]" \
	"$T/tr/index.json" >"$T/named/index.json"
from=oci:$T/named:x
for to in "oci-archive:$T/n.tar:x" "oci:$T/n0" "oci:$T/n1:x"; do
	converts "--reuse, $from" --reuse "$from" "$to"
	is "$CONVERTED" "sha256:$d" "... keeps the image"
	not_ok "... and says nothing of a trace" grep -q trace "$T/convert.err"
	from=$to
done
is "$(imgctl referrer "$to" $type)" "$(cat "$T/trace")" "its trace came along"
rm "$T/named/blobs/${digest/://}"
converts "--reuse, without the trace that is named" --reuse "oci:$T/named:x" \
	"oci:$T/n2:x"
not_ok "... says nothing of it" grep -q trace "$T/convert.err"
converts "without --reuse" "$from" "oci:$T/n3:x"
is "$(grep -c 'its trace are not kept (--reuse' "$T/convert.err")" 1 \
	"... it is said that the trace is not kept"

### What is printed ###
converts "--quiet" --quiet "oci:$L:one" "oci:$T/q:x"
is "$(cat "$T/convert.err")" "" "says nothing"
converts "--progress=plain" --progress plain "oci:$L:src" "oci:$T/q:y"
is "$(grep -c 'converted .* TOC sha256:' "$T/convert.err")" 5 "a line a layer"
like "$(tail -n 1 "$T/convert.err")" '^1 image, 5 layers \(0 kept\): .* -> ' \
	"and a summary"
converts "--progress=json" --progress json "oci:$L:src" "oci:$T/q:z"
ok "is all JSON" jq -e . "$T/convert.err"
is "$(tail -n 1 "$T/convert.err" | jq -r '.digest, (.layers | length)' | xargs)" \
	"$CONVERTED 5" "the last is the summary"
is "$(jq -rc 'keys | join(",")' "$T/convert.err" | sort -u | xargs)" \
	"bytes,layer,phase,total digest,layers,seconds layer,phase,text" \
	"and these are all kinds that there are"
convert --progress json "oci:$L:nope" "oci:$T/q:none"
is "$(jq -rc 'keys | join(",")' "$T/convert.err") $(wc -l <"$T/convert.err")" \
	"error 1" "what fails is JSON as well"
convert --progress json --reuse --compression-level x "oci:$L:one" "oci:$T/q:none"
is "$(jq -r .error "$T/convert.err")" \
	"--compression-level x: not a number from 1 to 9" "so is a wrong word"

converts "--chunk-size 64K" --chunk-size 64K "oci:$L:one" "oci:$T/k1:x"
kib=$CONVERTED
converts "--chunk-size 64kib" --chunk-size 64kib "oci:$L:one" "oci:$T/k2:x"
is "$CONVERTED" "$kib" "is the same"

### Wrong words ###
refuses "no image" 'wants SRC and DST'
refuses "no transport" 'debian: not docker://' debian "oci:$T/none:x"
refuses "an image that is not there" "oci:$L:nope: " "oci:$L:nope" "oci:$T/none:x"
refuses "a digest for a name" 'digest' "oci:$L:one" \
	"docker://localhost:1/x@$one"
for o in '--chunk-size 1' '--chunk-size 1TiB' '--chunk-size 64KB' '--compression-level 0' \
	'--jobs 0' '--jobs x' '--platform linux' '--progress pretty' \
	'--min-chunk-size -1' '--prefetch-list /nowhere'; do
	# shellcheck disable=SC2086
	refuses "$o" "convert: ${o% *}( |=)" $o "oci:$L:one" "oci:$T/none:x"
done
ok "nothing was made" [ ! -e "$T/none" ]
done_testing

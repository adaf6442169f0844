#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Images that are damaged, lie or want too much: one line that says what and
# where, exit 1, and nothing is written to where they were to go.
. "${top_srcdir:-.}/tests/lib.sh"
. "${top_srcdir:-.}/tests/convert.sh"
requires_convert
requires_cmd docker-registry

mkdir -p "$T/t/d"
for i in 1 2 3 4; do
	head -c 300000 /dev/urandom >"$T/t/d/$i"
done
tar -C "$T/t" -cf "$T/t.tar" d
tar -C "$T/t/d" -cf "$T/u.tar" 1 2
t=$T/t.tar
start_registry

# What was there before stays.
mkimage "$T/old:x" "gzip:$T/u.tar"
converts "something that is right" "oci:$T/old:x" "oci:$T/dst:x"
before=$CONVERTED
# An upload that was begun and taken back leaves a file behind, in the registry.
written() {
	find "$T/dst" "$T"/registry1/data -type f ! -path '*/_uploads/*' | sort
}
was=$(written)
unchanged() { diff <(echo "$was") <(written); }

# hostile DESC REGEX LAYOUT:TAG: to all that can be written to.
hostile() {
	refuses "$1" "$2" "oci:$3" "oci:$T/dst:x"
	if ! unchanged >/dev/null || [ "$(root "$T/dst" x)" != "$before" ]; then
		fail "$1: the layout has what it had"
	fi
	refuses "... to a registry" "$2" --plain-http --jobs 1 "oci:$3" \
		"docker://$REG/lab/img:x"
	ok "... gets nothing" unchanged
	refuses "... to an archive" "$2" "oci:$3" "oci-archive:$T/new.tar"
	ok "... makes none" [ ! -e "$T/new.tar" ]
}

### Blobs ###
N=0
# damaged COMMAND...: an image of two layers, of which the second's blob, $B, was
# treated so. $I is its layout and tag.
damaged() {
	N=$((N + 1))
	I=$T/i$N:x
	mkimage "$I" "gzip:$T/u.tar,gzip:$t"
	B=$(blob "${I%:x}" "$(layers "${I%:x}" "$MADE" | tail -n 1)")
	D=sha256:$(basename "$B")
	"$@"
}
cut_short() { truncate -s -1000 "$B"; }
flip() { printf 'X' | dd of="$B" bs=1 seek=700000 conv=notrunc status=none; }
flip_end() { printf 'X' | dd of="$B" bs=1 seek=$(($(stat -c %s "$B") - 6)) \
	conv=notrunc status=none; }
gone() { rm "$B"; }
grown() { echo more >>"$B"; }
damaged cut_short
hostile "a blob that is cut short" "layer $D: " "$I"
damaged flip
hostile "a blob with a byte changed" "layer $D: " "$I"
damaged flip_end
hostile "a blob with a wrong checksum" "layer $D: " "$I"
damaged gone
hostile "a blob that is not there" "layer $D: .*: no blob" "$I"
damaged grown
hostile "a blob that is longer than it should be" "layer $D: " "$I"

### Tar ###
# bad DESC REGEX FILE [COMP]: a layer of this content
bad() {
	N=$((N + 1))
	mkimage "$T/i$N:x" "gzip:$T/u.tar,${4:-gzip}:$3"
	hostile "$1" "layer sha256:[0-9a-f]{64}: .*$2" "$T/i$N:x"
}
head -c 100000 /dev/urandom >"$T/noise"
bad "noise" '' "$T/noise"
bad "noise, uncompressed" '' "$T/noise" none
head -c 400000 "$t" >"$T/cut.tar"
bad "a tar that ends within a file" '' "$T/cut.tar"
bad "a tar that ends within a file, in zstd" '' "$T/cut.tar" zstd
cp "$t" "$T/sum.tar"
printf '7' | dd of="$T/sum.tar" bs=1 seek=512100 conv=notrunc status=none
printf '9' | dd of="$T/sum.tar" bs=1 seek=101 conv=notrunc status=none
bad "a header with a wrong checksum" '' "$T/sum.tar"
"$PYTHON" - "$T/huge.tar" <<-'END'
	import sys, tarfile
	i = tarfile.TarInfo("huge")
	i.size = 1 << 62
	with open(sys.argv[1], "wb") as f:
	    f.write(i.tobuf(tarfile.GNU_FORMAT) + b"x" * 10240)
END
bad "a file of four exbibytes" '' "$T/huge.tar"

### Descriptors ###
for lie in size:"layer sha256:[0-9a-f]*: " diff-id:'is not the one' \
	more:'1 diff_ids, manifest: 2 layers' foreign:'media type'; do
	N=$((N + 1))
	mkimage --lie "${lie%%:*}" "$T/i$N:x" "gzip:$T/u.tar,gzip:$t"
	hostile "lie: ${lie%%:*}" "${lie#*:}" "$T/i$N:x"
done

### Documents ###
# document DESC REGEX FILTER: the manifest after a jq filter, by its new digest
document() {
	local l=$T/j$((N += 1)) d
	mkimage "$l:x" "gzip:$T/u.tar"
	doc "$l" "$MADE" "$3" >"$T/doc"
	d=$(sha256sum <"$T/doc" | cut -d ' ' -f 1)
	mv "$T/doc" "$l/blobs/sha256/$d"
	jq --arg d "sha256:$d" --argjson n "$(stat -c %s "$l/blobs/sha256/$d")" \
		'.manifests[0].digest = $d | .manifests[0].size = $n' \
		"$l/index.json" >"$T/index" && mv "$T/index" "$l/index.json"
	hostile "$1" "$2" "$l:x"
}
document "a manifest that is no object" '' '[1]'
document "a manifest without layers" 'no layers' 'del(.layers)'
document "a config that is not there" '' '.config.digest = "sha256:" + "0" * 64'
document "a digest that is none" '' '.layers[0].digest = "sha256:zz"'
document "schema 1" 'schema' '.schemaVersion = 1'
document "an artifact" 'no image|media type' \
	'.config.mediaType = "application/vnd.example+json"'
document "sizes beyond all" '' '.layers[0].size = 1e300'
document "a negative size" '' '.layers[0].size = -1'
document "a manifest that is an index too" '' '.manifests = []'

### Too much ###
head -c 300000000 /dev/zero >"$T/t/zero"
tar -C "$T/t" -cf - zero | gzip -1 >"$T/bomb.gz"
N=$((N + 1))
mkimage "$T/i$N:x" "raw:$T/bomb.gz"
mount -t tmpfs -o size=8m tmpfs "$TMPDIR" || bail tmpfs
hostile "a bomb, where there is no room for it" \
	"$TMPDIR|[Nn]o space" "$T/i$N:x"
umount "$TMPDIR"
d=$TMPDIR
export TMPDIR=$T/nowhere
convert --quiet "oci:$T/old:x" "oci:$T/dst:y"
is "$?" 1 "no directory for temporary files"
like "$(cat "$T/convert.err")" "$T/nowhere" "... is said"
export TMPDIR=$d
ok "all in all, nothing was written" unchanged
done_testing

# SPDX-License-Identifier: Apache-2.0
# For tests of `estargz convert`; sourced after lib.sh.
# shellcheck shell=bash

requires_convert() {
	requires_root
	requires_cmd jq skopeo tar gzip zstd "$PYTHON"
	[ -x "$ESTARGZ" ] || plan_skip "estargz is not built"
	export TMPDIR=$T/tmp
	mkdir -p "$TMPDIR"
}

# mkimage ...: tests/tools/mkimage.py; the digest in $MADE
mkimage() {
	MADE=$(timeout 120 "$PYTHON" "$TOOLS/mkimage.py" "$@")
}

# convert [options] SRC DST: its exit status, the digest in $CONVERTED, what it
# said in $T/convert.err. Fast, but for what a test asks for.
convert() {
	CONVERTED=$(timeout 300 "$ESTARGZ" convert --compression-level 1 "$@" \
		2>"$T/convert.err")
}
converts() {
	local d=$1
	shift
	if convert "$@"; then
		pass "$d"
	else
		fail "$d"
		diag_file "$T/convert.err"
	fi
}

# refuses DESC REGEX [options] SRC DST: exit 1 and one line, which matches.
refuses() {
	local d=$1 re=$2 rc why=
	shift 2
	convert --quiet "$@"
	rc=$?
	[ $rc = 1 ] || why="exit $rc, want 1"
	[ -z "$CONVERTED" ] || why="$why; said $CONVERTED"
	[ "$(wc -l <"$T/convert.err")" = 1 ] || why="$why; not one line"
	grep -qE -- "$re" "$T/convert.err" || why="$why; no match of: $re"
	[ -z "$(ls -A "$TMPDIR")" ] || why="$why; files left in TMPDIR"
	if [ -z "$why" ]; then
		pass "$d"
		return
	fi
	fail "$d"
	diag "${why#; }"
	diag_file "$T/convert.err"
	return 1
}

# doc LAYOUT DIGEST [jq filter]; root LAYOUT TAG
doc() { jq -r "${3:-.}" <"$1/blobs/sha256/${2#*:}"; }
root() {
	jq -r --arg t "$2" '.manifests[] | select(
		.annotations["org.opencontainers.image.ref.name"] == $t) |
		.digest' <"$1/index.json"
}
config() { doc "$1" "$(doc "$1" "$2" .config.digest)" "${3:-.}"; }

# Digests of layers, and of what is in them: LAYOUT MANIFEST
layers() { doc "$1" "$2" '.layers[].digest'; }
diff_ids() { config "$1" "$2" '.rootfs.diff_ids[]'; }
blob() { echo "$1/blobs/sha256/${2#*:}"; }

# The manifest in a layout is an eStargz image that is right in itself.
is_esgz() {
	local l=$1 m=$2 i=0 d b want
	[ "$(sha256sum <"$(blob "$l" "$m")" | cut -d ' ' -f 1)" = "${m#*:}" ] ||
		{ echo "manifest $m"; return 1; }
	for d in $(layers "$l" "$m"); do
		b=$(blob "$l" "$d")
		[ sha256:"$(sha256sum <"$b" | cut -d ' ' -f 1)" = "$d" ] ||
			{ echo "layer $i: digest"; return 1; }
		[ "$(doc "$l" "$m" ".layers[$i].size")" = "$(stat -c %s "$b")" ] ||
			{ echo "layer $i: size"; return 1; }
		want=$(config "$l" "$m" ".rootfs.diff_ids[$i]")
		[ sha256:"$(gzip -dc "$b" | sha256sum | cut -d ' ' -f 1)" = "$want" ] ||
			{ echo "layer $i: diff_id"; return 1; }
		want=$(doc "$l" "$m" ".layers[$i].annotations[
			\"io.containers.estargz.uncompressed-size\"]")
		[ "$(gzip -dc "$b" | wc -c)" = "$want" ] ||
			{ echo "layer $i: uncompressed size"; return 1; }
		want=$(doc "$l" "$m" ".layers[$i].annotations[
			\"containerd.io/snapshot/stargz/toc.digest\"]")
		# The TOC is the tar's last file.
		[ sha256:"$(gzip -dc "$b" | tar -xOf - stargz.index.json |
			sha256sum | cut -d ' ' -f 1)" = "$want" ] ||
			{ echo "layer $i: TOC digest"; return 1; }
		i=$((i + 1))
	done
	[ "$i" -gt 0 ]
}

# Names in a layer, but for what eStargz adds: BLOB
names() {
	gzip -dc "$1" | tar -tf - |
		grep -vxE '(\./)?(stargz.index.json|\.(no\.)?prefetch\.landmark)'
}

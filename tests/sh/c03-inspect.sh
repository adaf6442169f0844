#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# estargz inspect: numbers that can be counted in another way, on every kind of
# image; nothing is downloaded for them.
. "${top_srcdir:-.}/tests/lib.sh"
requires_cmd "$PYTHON" jq skopeo docker-registry
images small small-zstd small-chunk64k small-landmark small-nolandmark

inspect() { timeout 60 "$ESTARGZ" inspect "$@" >"$T/out" 2>"$T/err"; }
# error DESC REGEX ARGUMENTS: exit 1, one line that matches.
error() { one_line "$1" "$2" inspect "${@:3}"; }
i=oci:$IMAGES

### What is said, and what is so ###

# The numbers of a layer from its TOC alone.
cat >"$T/count.jq" <<'END'
[.entries[] | select(.type != "chunk")] as $e
| [.entries[] | select(.type == "reg" or .type == "chunk")
	| select((.size // 0) > 0 or .type == "chunk")] as $c
| {entries: ($e | length), files: ([$e[] | select(.type == "reg")] | length),
	chunks: ($c | length)}
END
for t in small small-zstd small-chunk64k small-landmark; do
	ok "$t" inspect --json "$i:$t"
	cp "$T/out" "$T/json"
	is "$(jq -r .digest "$T/json")" \
		"$(skopeo inspect --raw "$i:$t" | sha256sum | sed 's/\(.*\) .*/sha256:\1/;s/ //g')" \
		"... its digest"
	is "$(jq -c '[.layers[] | [.digest, .size, .media_type]]' "$T/json")" \
		"$(skopeo inspect --raw "$i:$t" |
			jq -c '[.layers[] | [.digest, .size, .mediaType]]')" \
		"... its layers"
	is "$(jq -c '[.layers[].lazy] | all' "$T/json")" true "... all lazy"
	for n in 0 2; do
		ok "... the TOC of layer $n" inspect --toc --layer $n "$i:$t"
		is "sha256:$(sha256sum <"$T/out" | cut -d' ' -f1)" \
			"$(jq -r ".layers[$n].toc_digest_annotation" "$T/json")" \
			"... is what its digest is of"
		is "$(jq -c ".layers[$n] | {entries, files, chunks}" "$T/json")" \
			"$(jq -cf "$T/count.jq" "$T/out")" "... and is counted"
		is "$(jq ".layers[$n].members" "$T/json")" \
			"$(jq '[.entries[] | select(.offset) | .offset, 0] | unique | length' "$T/out")" \
			"... and its members"
		is "$(jq ".layers[$n].chunk_bytes_max" "$T/json")" \
			"$(jq '[.entries[] | select(.type == "reg" or .type == "chunk")
				| .chunkSize // .size // 0] | max' "$T/out")" \
			"... and its largest chunk" || :
	done
	is "$(jq '[.layers[].overhead_bytes] | add' "$T/json")" \
		"$(jq .total.overhead_bytes "$T/json")" "... the sums"
done
at=$(inspect --toc --layer 0 "$i:small-landmark"
	jq '.entries[] | select(.name == ".prefetch.landmark") | .offset' "$T/out")
inspect --json "$i:small-landmark"
is "$(jq '.layers[0].prioritised_bytes' "$T/out")" "${at:-0}" "what is prioritised ends at the landmark"
inspect --json "$i:small-nolandmark"
is "$(jq '.total.prioritised_bytes' "$T/out")" 0 "and without one nothing is"

# For people: the same, a block a layer.
ok "for people" inspect "$i:small"
is "$(grep -c '^layer ' "$T/out")" 5 "... a block a layer"
ok "... which says whether the TOC is the right one" \
	grep -q 'as the manifest says' "$T/out"

### What is not lazy ###

ok "an ordinary image" inspect "$i:small-src"
is "$(grep -c 'it has no TOC' "$T/out")" 5 "... is not lazy"
ok "... as JSON" inspect --json "$i:small-src"
is "$(jq -c '[([.layers[].lazy] | any), .layers[0].format]' "$T/out")" \
	'[false,"gzip"]' "... neither"
error "... has no TOC to show" 'no layer has a TOC' --toc "$i:small-src"
error "which layer" '[0-9] layers have a TOC: say which' --toc "$i:small"
error "a layer that is not there" 'there are 5 layers' --toc --layer 9 "$i:small"
error "a layer that is no number" 'not a number' --layer x "$i:small"
error "a tag that is not there" 'no image has the name nope' "$i:nope"
error "a platform that is none" 'not OS/ARCHITECTURE' --platform x "$i:small"
error "no image" 'wants one image'

# A TOC that is not the annotation's is shown as what it is.
skopeo copy --quiet "$i:small" "oci:$T/l:x" || bail skopeo
m=$(jq -r '.manifests[0].digest' "$T/l/index.json")
zero=sha256:$(printf '0%.0s' {1..64})
jq -c ".layers[0].annotations.\"containerd.io/snapshot/stargz/toc.digest\" = \"$zero\"" \
	"$T/l/blobs/${m/://}" >"$T/m"
d=$(sha256sum <"$T/m" | cut -d' ' -f1)
cp "$T/m" "$T/l/blobs/sha256/$d"
jq -c ".manifests[0].digest = \"sha256:$d\" | .manifests[0].size = $(stat -c %s "$T/m")" \
	"$T/l/index.json" >"$T/index" && cp "$T/index" "$T/l/index.json"
ok "a wrong annotation" inspect "oci:$T/l:x"
ok "... is said" grep -q 'the manifest names another' "$T/out"
inspect --json "oci:$T/l:x"
is "$(jq -c '.layers[0] | [.lazy, (.why_not | test("TOC is sha256:"))]' "$T/out")" \
	'[false,true]' "... and that it is not lazy"

### A trace ###

# Three ranges of layer 0: two that overlap, and one at the end.
inspect --json "$i:small"
cp "$T/out" "$T/json"
jq -c '.layers[0] | {version: 1, layers: [.digest],
	reads: [[0, 500, 1000], [0, 0, 1000], [0, .size - 10, 10]]}' "$T/json" >"$T/trace"
# traced DIR DIGEST: the image, its layers naming a trace, with ours attached
traced() {
	local m d
	skopeo copy --quiet "$i:small" "oci:$1:x" || bail skopeo
	m=$(jq -r '.manifests[0].digest' "$1/index.json")
	jq -c ".layers[].annotations.\"containerd.io/snapshot/estargz/trace.digest\" = \"$2\"" \
		"$1/blobs/${m/://}" >"$T/m"
	d=$(sha256sum <"$T/m" | cut -d' ' -f1)
	cp "$T/m" "$1/blobs/sha256/$d"
	jq -c ".manifests[0].digest = \"sha256:$d\" | .manifests[0].size = $(stat -c %s "$T/m")" \
		"$1/index.json" >"$T/index" && cp "$T/index" "$1/index.json"
	"$top_builddir/tests/tools/imgctl" refer "oci:$1:x" "oci:$1-t:x" \
		application/vnd.estargz.trace.v1+json "$T/trace" || bail imgctl
}
digest=sha256:$(sha256sum <"$T/trace" | cut -d' ' -f1)
traced "$T/one" "$digest"
ok "an image with a trace" inspect --json "oci:$T/one-t:x"
is "$(jq -c .trace "$T/out")" "{\"digest\":\"$digest\",\"reads\":3,\"layers\":1}" \
	"... says which"
is "$(jq '.layers[0] | .trace_bytes' "$T/out")" 1510 "... what it names, once"
is "$(jq '.layers[0].start_bytes' "$T/out")" \
	"$(($(jq '.layers[0].start_bytes' "$T/json") + 1500))" \
	"... and what is fetched for it beside the end"
inspect "oci:$T/one-t:x"
ok "... and so for people" grep -q "trace  *$digest: 3 reads" "$T/out"
# To archives only the blob comes along.
for n in oci-archive:$T/one.tar:x "oci:$T/one-nameless"; do
	"$top_builddir/tests/tools/imgctl" refer "oci:$T/one-t:x" "$n" \
		application/vnd.estargz.trace.v1+json "$T/trace" || bail imgctl
	inspect --json "$n"
	is "$(jq -c .trace "$T/out")" \
		"{\"digest\":\"$digest\",\"reads\":3,\"layers\":1}" \
		"the trace that layers name is found without an artifact"
done
traced "$T/two" "sha256:$(printf '2%.0s' {1..64})"
ok "a trace that the layers do not mean" inspect --json "oci:$T/two-t:x"
like "$(jq -r .trace.warning "$T/out")" 'name another one, sha256:2222' "... is said"
is "$(jq '.layers[0].start_bytes' "$T/out")" "$(jq '.layers[0].start_bytes' "$T/json")" \
	"... and not counted"

### A registry: ranges only ###

start_registry
push "$IMAGES:small" lab/small:1 || bail push
: >"$REG_LOG"
ok "an image of a registry" inspect --json --plain-http "docker://$REG/lab/small:1"
is "$(jq -c '.layers' "$T/out")" \
	"$(inspect --json "$i:small"; jq -c '.layers' "$T/out")" \
	"... is the same"
sent=$(sed -n 's/.*"GET [^"]*\/blobs\/[^"]*" \([0-9]*\) \([0-9]*\) .*/\1 \2/p' "$REG_LOG" |
	awk '{ n += $2; if ($1 == 200 && $2 > 65536) whole++ } END { print n + 0, whole + 0 }')
at_most "${sent% *}" 1200000 "... of $(stat -c %s "$LAYERS/small.tar") bytes few are sent (${sent% *})"
is "${sent#* }" 0 "... and no layer whole"
is "$("$ESTARGZ" inspect "$i:small" 2>&1 >/dev/full; echo $?)" \
	"estargz: cannot write: No space left on device
1" "what nobody could read is not passed off as said"
done_testing

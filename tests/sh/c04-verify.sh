#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# estargz verify: what is right is called so, and every lie by its name.
. "${top_srcdir:-.}/tests/lib.sh"
requires_cmd "$PYTHON" jq skopeo docker-registry
images small small-zstd small-chunk64k

verify() { timeout 120 "$ESTARGZ" verify "$@" >"$T/out" 2>"$T/err"; }
# wrong DESC REGEX ARGUMENTS: exit 1, a line on standard output that matches.
wrong() {
	local d=$1 re=$2 rc
	shift 2
	verify "$@"
	rc=$?
	if [ $rc = 1 ] && [ ! -s "$T/err" ] && grep -qE -- "$re" "$T/out"; then
		pass "$d"
		return
	fi
	fail "$d"
	diag "exit $rc, want 1 and a line that matches: $re"
	diag_file "$T/out"
	diag_file "$T/err"
}
# error DESC REGEX ARGUMENTS: exit 1, one line on standard error.
error() { one_line "$1" "$2" verify "${@:3}"; }

### What is right ###

for t in small small-zstd small-chunk64k; do
	ok "$t is right" verify "oci:$IMAGES:$t"
	is "$(grep -c ': right$' "$T/out")" \
		"$(timeout 60 "$ESTARGZ" inspect --json "oci:$IMAGES:$t" |
			jq '[.layers[].digest] | unique | length')" \
		"... each of its layers, once"
done
ok "an ordinary image is right" verify "oci:$IMAGES:small-src"
ok "... and has no TOC" grep -q ': gzip, right$' "$T/out"
ok "quietly" verify -q "oci:$IMAGES:small"
is "$(cat "$T/out")" "" "... nothing is said"
ok "as JSON" verify -j "oci:$IMAGES:small"
is "$(jq -c '[.ok, .wrong, ([.layers[].ok] | all),
	([.layers[].findings[]] | length)]' "$T/out")" "[true,0,true,0]" \
	"... it says the same"

mkesgz all good "$T/good" || bail mkesgz
for j in "$T"/good/*.json; do
	b=${j%.json}
	ok "$(basename "$b" .esgz) is right" verify "$b" \
		--toc-digest "$(jget "$j" .toc_digest)" || diag_file "$T/out"
done

### Blobs that lie ###

"$PYTHON" "$TOOLS/liars.py" "$T/liars" || bail liars.py
ok "what the liars come from is right" verify "$T/liars/right.esgz" \
	--toc-digest "$(cat "$T/liars/right.toc")"
n=0
for w in "$T"/liars/*.want; do
	name=$(basename "$w" .want)
	[ "$name" != right ] || continue
	wrong "$name" "$(cat "$w")" "${w%.want}.esgz"
	n=$((n + 1))
done
ok "all of them" test $n -ge 40
# One corrupt member does not hide another, nor the chunks in between.
verify "$T/liars/flip-two.esgz"
is "$(grep -cE '^(d/big|z): at' "$T/out")" 2 "two corrupt members are two lines"
wrong "a blob with another TOC" "^TOC is sha256:.*, not sha256:1111" \
	--toc-digest "sha256:$(printf '1%.0s' {1..64})" "$T/liars/right.esgz"
verify -j "$T/liars/digest-2.esgz"
is "$(jq -r '.ok, .wrong, .layers[0].findings[0].entry' "$T/out" | xargs)" \
	"false 1 d/big" "as JSON, with the entry"
at=$(jq '.layers[0].findings[0].offset' "$T/out")
is "$(head -c $((at + 2)) "$T/liars/digest-2.esgz" | tail -c 2 | od -An -tx1)" \
	" 1f 8b" "... and where the member is"

# Hostile ones: never right, never more than a bounded number of lines.
for c in nothing one-byte footer-beyond footer-zstd-huge toc-not-json \
	toc-version-2 toc-nul-in-name toc-size-huge chunk-inflates-to-less \
	chunk-inflates-to-more chunk-bomb chunk-overlap chunk-backwards \
	chunk-offset-inside chunk-in-toc extra-tail; do
	mkesgz make $c "$T/$c.esgz" >/dev/null || bail "mkesgz $c"
	verify "$T/$c.esgz" --toc-digest "$(jget "$T/$c.esgz.json" .toc_digest)"
	rc=$?
	is "$rc:$(($(cat "$T/out" "$T/err" | wc -l) <= 102))" 1:1 \
		"$c is not right"
done

### Images that lie ###

# A copy of an image whose documents are changed by jq: change TAG MANIFEST-JQ
# [CONFIG-JQ]
change() {
	"$PYTHON" - "$T/l" "$@" <<'END'
import hashlib, json, os, subprocess, sys
lay, tag, mq, cq = (sys.argv[1:] + ["."])[:4]
def path(d):
    return lay + "/blobs/sha256/" + d.split(":")[1]
def jq(q, doc):
    return subprocess.run(["jq", "-c", q], input=doc, check=True,
                          stdout=subprocess.PIPE).stdout.strip()
def put(b):
    d = "sha256:" + hashlib.sha256(b).hexdigest()
    open(path(d), "wb").write(b)
    return {"digest": d, "size": len(b)}
index = json.load(open(lay + "/index.json"))
base = [m for m in index["manifests"]
        if m["annotations"]["org.opencontainers.image.ref.name"] == "base"][0]
m = json.load(open(path(base["digest"])))
m["config"].update(put(jq(cq, open(path(m["config"]["digest"]), "rb").read())))
new = dict(base, **put(jq(mq, json.dumps(m).encode())))
new["annotations"] = {"org.opencontainers.image.ref.name": tag}
index["manifests"].append(new)
json.dump(index, open(lay + "/index.json", "w"))
END
}
skopeo copy -q "oci:$IMAGES:small" "oci:$T/l:base" || bail skopeo
zero=sha256:$(printf '0%.0s' {1..64})
ok "a copy is right" verify "oci:$T/l:base"
change toc ".layers[0].annotations.\"containerd.io/snapshot/stargz/toc.digest\" = \"$zero\""
wrong "a wrong TOC digest" '^layer 0: TOC is sha256:.*, not sha256:0000' "oci:$T/l:toc"
change diff . ".rootfs.diff_ids[1] = \"$zero\""
wrong "a wrong diff_id" '^layer 1: diff_id is sha256:.* config says sha256:0000' "oci:$T/l:diff"
change usize '.layers[1].annotations."io.containers.estargz.uncompressed-size" = "7"'
wrong "a wrong uncompressed size" '^layer 1: [0-9]* bytes uncompressed, the manifest says 7' "oci:$T/l:usize"
change media '.layers[1].mediaType |= sub("gzip"; "zstd")'
wrong "a wrong media type" '^layer 1: it is estargz, its media type .*zstd' "oci:$T/l:media"
change size '.layers[1].size += 1'
wrong "a wrong size" '^layer 1: sha256:.* bytes, its descriptor says' "oci:$T/l:size"
change gone ".layers[2].digest = \"$zero\""
wrong "a blob that is not there" '^layer 2: .*no blob sha256:0000' "oci:$T/l:gone"
change claims ".layers[3] = (.layers[3] | .digest=\"$(
	cp "$LAYERS/empty.tar" "$T/empty.tar"
	echo "sha256:$(sha256sum <"$T/empty.tar" | cut -d' ' -f1)")\" | .size = $(
	stat -c %s "$T/empty.tar"))"
cp "$T/empty.tar" "$T/l/blobs/sha256/$(sha256sum <"$T/empty.tar" | cut -d' ' -f1)"
wrong "a layer that should have a TOC" '^layer 3: it has no TOC' "oci:$T/l:claims"
change count 'del(.layers[0])'
error "fewer layers than diff_ids" 'config: 5 diff_ids, manifest: 4 layers' "oci:$T/l:count"
# The blob itself, under its name.
d=$(jq -r '.manifests[0].digest' "$T/l/index.json")
b=$(jq -r '.layers[2].digest' "$T/l/blobs/${d/://}")
cp "$T/l/blobs/${b/://}" "$T/blob"
printf x | dd of="$T/l/blobs/${b/://}" bs=1 seek=4000 conv=notrunc status=none
wrong "a blob with another digest" "^layer 2: .*(corrupt|the TOC says)" "oci:$T/l:base"
cp "$T/blob" "$T/l/blobs/${b/://}"
c=$(jq -r '.config.digest' "$T/l/blobs/${d/://}")
printf ' ' >>"$T/l/blobs/${c/://}"
error "a config with another digest" "bytes, its descriptor says" "oci:$T/l:base"

### A registry ###

start_registry
push "$IMAGES:small" lab/small:1 || bail push
ok "an image of a registry is right" verify --plain-http "docker://$REG/lab/small:1"
f=$(find "$T/registry1/data" -path "*/${b#sha256:}/data")
printf x | dd of="$f" bs=1 seek=4000 conv=notrunc status=none
wrong "... and is not, with another byte in a blob" "^layer 2: .*(corrupt|the TOC says)" \
	--plain-http "docker://$REG/lab/small:1"

error "an image that is not there" 'No such file' "oci:$T/none:x"
error "a file that is not there" 'none: No such file' "$T/none"
error "a directory" 'no regular file' "$T"
error "a digest that is none" 'not a sha256' --toc-digest x "$T/blob"
error "a TOC digest of an image" 'is for a file' --toc-digest "$zero" "oci:$T/l"
done_testing

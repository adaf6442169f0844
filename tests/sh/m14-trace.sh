#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A mount with the trace of its image: what that names is prefetched, and
# nothing else; what is read is right, whatever the trace says.
# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/../..}/tests/lib.sh"
requires_mount
requires_cmd jq curl

# A layer with a file of 8 MiB in chunks of 64 KiB, and another one beside it.
mkdir -p "$T/oci/blobs/sha256" "$T/tree" "$T/m"
head -c 8388608 /dev/urandom >"$T/tree/big"
head -c 300000 /dev/urandom >"$T/tree/small"
ok "an image" "$PYTHON" - "$T" <<'END'
import gzip, hashlib, json, os, struct, sys, tarfile
T = sys.argv[1]
CHUNK = 65536
blob, entries, tar = b"", [], []


def member(data):
    global blob
    off = len(blob)
    blob += gzip.compress(data, 1, mtime=0)
    return off


def header(name, size):
    t = tarfile.TarInfo(name)
    t.size = size
    return t.tobuf(tarfile.USTAR_FORMAT)


def finish():
    """Appends TOC and footer; returns where the TOC is, and its digest."""
    global blob
    toc = json.dumps({"version": 1, "entries": entries}).encode()
    at = member(header("stargz.index.json", len(toc)) + toc +
                bytes(-len(toc) % 512) + bytes(1024))
    extra = b"SG" + struct.pack("<H", 22) + b"%016xSTARGZ" % at
    blob += (b"\x1f\x8b\x08\x04\0\0\0\0\0\xff" +
             struct.pack("<H", len(extra)) + extra + b"\x01\0\0\xff\xff" +
             bytes(8))
    return at, "sha256:" + hashlib.sha256(toc).hexdigest()


for name in ("small", "big"):
    data = open(os.path.join(T, "tree", name), "rb").read()
    member(header(name, len(data)))
    for at in range(0, len(data), CHUNK):
        part = data[at:at + CHUNK]
        e = {"name": name, "type": "reg" if at == 0 else "chunk",
             "offset": member(part),
             "chunkOffset": at, "chunkSize": len(part),
             "chunkDigest": "sha256:" + hashlib.sha256(part).hexdigest()}
        if at == 0:
            e.update(size=len(data), mode=0o644,
                     digest="sha256:" + hashlib.sha256(data).hexdigest())
        entries.append(e)
    if len(data) % 512:
        member(bytes(512 - len(data) % 512))
at, tocd = finish()


def put(data):
    d = hashlib.sha256(data).hexdigest()
    with open("%s/oci/blobs/sha256/%s" % (T, d), "wb") as f:
        f.write(data)
    return "sha256:" + d


big = [e for e in entries if e["name"] == "big"]
ends = [e["offset"] for e in big[1:]] + [at]
reads = [[0, big[i]["offset"], ends[i] - big[i]["offset"]]
         for i in (90, 3, 4, 40)]
layer = put(blob)
config = put(b"{}")
types = "application/vnd.oci.image."


def manifest(tag, annotations):
    if tocd is not None:
        annotations["containerd.io/snapshot/stargz/toc.digest"] = tocd
    m = put(json.dumps({
        "schemaVersion": 2, "mediaType": types + "manifest.v1+json",
        "config": {"mediaType": types + "config.v1+json", "digest": config,
                   "size": 2},
        "layers": [{"mediaType": types + "layer.v1.tar+gzip",
                    "digest": layer, "size": len(blob),
                    "annotations": annotations}]}).encode())
    with open("%s/%s.digest" % (T, tag), "w") as f:
        f.write(m)
    images.append({"digest": m, "annotations": {
        "org.opencontainers.image.ref.name": tag}})
    return m


images = []
data = b"".join(blob[off:off + n] for _, off, n in reads)
for tag, trace in (
        ("data", {"version": 1, "layers": [layer], "reads": reads,
                  "data": put(data)}),
        ("wrong", {"version": 1, "layers": [layer], "reads": reads,
                   "data": put(bytes(len(data)))}),
        ("good", {"version": 1, "layers": [layer], "reads": reads}),
        ("nonsense", {"version": 1, "layers": [layer], "reads": [[9, 9]]}),
        ("lies", {"version": 1, "layers": [layer], "reads": [
            [0, 1, 1], [0, at - 5, 2 ** 62], [0, 2 ** 62, 7]]}),
        ("gone", None)):
    digest = "sha256:" + "0" * 64
    if trace is not None:
        digest = put(json.dumps(trace).encode())
    manifest(tag, {"containerd.io/snapshot/estargz/trace.digest": digest})
# Of one that names none, and of its trace, for the list of what refers to it.
found = put(json.dumps({"version": 1, "layers": [layer], "reads": reads}
                       ).encode())
kind = "application/vnd.estargz.trace.v1+json"
m = manifest("found", {})
artifact = put(json.dumps({
    "schemaVersion": 2, "mediaType": types + "manifest.v1+json",
    "artifactType": kind, "config": {}, "subject": {"digest": m},
    "layers": [{"mediaType": kind, "digest": found}]}).encode())
other = put(json.dumps({
    "artifactType": kind, "subject": {"digest": config},
    "layers": [{"mediaType": kind, "digest": layer}]}).encode())
created = "org.opencontainers.image.created"
images += [
    {"artifactType": kind, "digest": artifact, "annotations": {
        created: "2001", "vnd.estargz.subject.digest": m}},
    {"artifactType": kind, "digest": other, "annotations": {
        created: "2003", "vnd.estargz.subject.digest": config}},
    {"artifactType": kind, "digest": other, "annotations": {created: "2003"}},
    {"artifactType": kind, "digest": layer}]
os.mkdir(T + "/oci/referrers")
with open(T + "/oci/referrers/" + m[7:], "w") as f:
    json.dump({"schemaVersion": 2, "manifests": [
        {"artifactType": kind, "digest": artifact}]}, f)
with open(T + "/oci/index.json", "w") as f:
    f.write(json.dumps({"schemaVersion": 2, "manifests": images}))
with open(T + "/reads", "w") as f:
    for _, off, n in reads:
        f.write("bytes=%d-%d\n" % (off, off + n - 1))
with open(T + "/layer", "w") as f:
    f.write(layer)
# The same bytes with no digest of any, and data that is another's.
blob = blob[:at]
for e in entries:
    e.pop("chunkDigest")
    e.pop("digest", None)
finish()
layer, tocd = put(blob), None
data = b"".join(gzip.compress(os.urandom(CHUNK), 1, mtime=0) for _ in reads)
assert [len(data)] == [sum(n for _, _, n in reads)]
manifest("unchecked", {"containerd.io/snapshot/estargz/trace.digest": put(
    json.dumps({"version": 1, "layers": [layer], "reads": reads,
                "data": put(data)}).encode())})
END
start_srv srv --oci "$T/oci" --referrers
LAYER=$(cat "$T/layer")
N=0
# with TAG OPTIONS: mounted with an empty cache.
with() {
	N=$((N + 1))
	srv_reset
	[ -z "${FAULT:-}" ] || srv_fault "$FAULT"
	STATE=$T/state$N mount_esgz "$SRV_ADDR/a/b@$(cat "$T/$1.digest")" \
		"$T/m" "plain_http,nobackground${2:-}"
}
stat_of() {
	"$ESTARGZ" status --json |
		jq -c --arg t "$T/m" "map(select(.target == \$t))[0] | $1"
}
stat_is() { [ "$(stat_of "$1")" = "$2" ]; }
ranges() {
	srv_ctl "$SRV_URL/_ctl/log" |
		jq -r --arg l "$LAYER" 'select(.path | endswith($l)) |
			.range // ""' | grep -v -e '^$' -e '-$' | sort
}
right() { cmp "$T/tree/big" "$T/m/big" && cmp "$T/tree/small" "$T/m/small"; }
ended() { umount_esgz "$T/m" && wait_for 20 no_mount_procs; }

ok "a mount with a trace" with good
# And what the tail held.
ok "what it names comes" wait_for 20 stat_is \
	'.chunks_present >= 7 and .chunks_present <= 9' true
is "$(stat_of '.trace_ranges')" 3 "as three ranges, because two touch"
like "$(ranges)" "$(sed -n 1p "$T/reads")" "the first is one request"
like "$(ranges)" "$(sed -n 4p "$T/reads")" "and the last"
is "$(stat_of .demand.misses)" 0 "nobody has waited"
before=$(srv_count)
part() { dd if="$1" bs=4096 skip=52 count=24 status=none; }
ok "what was named can be read" cmp <(part "$T/tree/big") <(part "$T/m/big")
is "$(stat_of .demand.misses)" 0 "still nobody"
is "$(srv_count)" "$before" "and nothing was asked for"
ok "all of it is right" right
ended
with data
ok "a trace with data: what it names comes" wait_for 20 stat_is \
	'.chunks_present >= 7 and .chunks_present <= 9' true
is "$(ranges | grep -cxFf "$T/reads")" 0 "... and not from the layer"
before=$(srv_count)
ok "... can be read" cmp <(part "$T/tree/big") <(part "$T/m/big")
is "$(stat_of .demand.misses) $(srv_count)" "0 $before" "... without a request"
ok "... and is right, as is the rest" right
ended
with wrong
ok "data that is wrong: what it names comes all the same" wait_for 20 stat_is \
	'.chunks_present >= 7 and .chunks_present <= 9' true
is "$(stat_of '.errors.verify > 0')" true "... is found out"
is "$(stat_of .demand.misses)" 0 "... and nobody has waited"
ok "... all is right" right
ended
with unchecked ,insecure_no_verify
ok "nor is it taken for what nothing is checked against" right
ended
with good
ok "again without data" right
ended
KEPT=$(find "$T/state$N/traces" -type f)
is "$(od -An -v -tu4 -j12 -N4 "$KEPT" | xargs)" 133 \
	"what was read is noted, for when there is no trace"
keep() { mkdir -p "$T/state$1" && cp -r "${KEPT%/sha256/*}" "$T/state$1/"; }
keep $((N + 1))
with gone
is "$(stat_of .trace_ranges)" 0 "... which is not so where one is named"
ended
N=$((N + 1))
keep $N
STATE=$T/state$N mount_esgz "$SRV_ADDR/a/b" "$T/m" \
	"plain_http,nobackground,layer=$LAYER,toc_digest=sha256:${KEPT##*/}"
ok "a mount that knows of none goes by it" stat_is '.trace_ranges > 0' true
ended

### Found by the manifest ###

ok "a mount of an image that names no trace" with found
ok "what refers to it names comes" wait_for 20 stat_is .trace_ranges 3
is "$(srv_count path=/referrers/)" 1 "it was looked for once"
ok "all of it is right" right
ended
N=$((N + 1))
keep $N
srv_reset
STATE=$T/state$N mount_esgz "$SRV_ADDR/a/b@$(cat "$T/found.digest")" "$T/m" \
	"plain_http,nobackground"
ok "a layer of which is known what is read first" stat_is '.trace_ranges > 0' true
is "$(srv_count path=/referrers/)" 0 "needs none"
ended
ok "notrace" with found ,notrace
ok "is right" right
is "$(srv_count path=/referrers/)" 0 "and looks for none"
ended
ok "an image that names a trace" with good
is "$(srv_count path=/referrers/)" 0 "is not asked for another"
ended
FAULT='{"kind": "stall", "after": 0, "path": "/referrers/"}'
ok "while the list does not come" with found
ok "it is mounted and read" right
asked() { [ "$(srv_count path=/referrers/)" = 1 ]; }
ok "it was asked for" wait_for 20 asked
is "$(stat_of .errors.reads)" 0 "and nobody waits for it"
FAULT=
srv_clear
ended

### In a layout ###

# here TAG OPTIONS: from the directory, with an empty cache.
here() {
	N=$((N + 1))
	STATE=$T/state$N mount_esgz "oci:$T/oci:$1" "$T/m" "nobackground${2:-}"
}
for tag in good found; do
	ok "a mount of a layout: $tag" here $tag
	is "$(stat_of .trace_ranges)" 4 "its trace is followed"
	ok "what it names is prefetched" wait_for 20 stat_is \
		'.chunks_present >= 6 and .chunks_present <= 9' true
	is "$(stat_of .demand.misses)" 0 "before it is read"
	ok "and it is right" right
	ended
done
ok "a layout: notrace" here found ,notrace
is "$(stat_of .trace_ranges)" 0 "goes without"
ended
for tag in gone lies nonsense; do
	ok "a layout with a trace that is $tag" here $tag
	ok "is right as well" right
	ended
done
is "$(grep -c "trace is not used: trace: " "$T/mount.err")" 1 \
	"nonsense is said, once"
t=$T/oci/blobs/sha256/$(jq -r '.layers[0].annotations."containerd.io/snapshot/estargz/trace.digest"' \
	<"$T/oci/blobs/sha256/$(cut -d: -f2 "$T/good.digest")" | cut -d: -f2)
mv "$t" "$T/trace"
mkfifo "$t"
ok "a layout with a FIFO for a trace" here good
ok "is right as well" right
ended
is "$(grep -c "trace is not used: trace $t: no regular file" "$T/mount.err")" 1 \
	"that is said, too"
rm "$t"
mv "$T/trace" "$t"

ok "a mount that maps it" with good
ok "here and there, by pages" "$PYTHON" - "$T/tree/big" "$T/m/big" <<'END'
import mmap, random, sys
files = [open(f, "rb") for f in sys.argv[1:]]
a, b = (mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) for f in files)
r = random.Random(1)
for _ in range(200):
    at = r.randrange(len(a) - 5000)
    assert a[at:at + 5000] == b[at:at + 5000]
END
ok "what would have waited was refused" [ "$(stat_of .refused)" -gt 0 ]
ok "and all of it is right" right
ended
ok "a mount of which a page is touched" with good
ok "... which nobody has named" "$PYTHON" - "$T/m/big" <<'END'
import mmap, sys
f = open(sys.argv[1], "rb")
assert mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)[80 * 65536] >= 0
END
ok "... and what lies beside it refused" [ "$(stat_of .refused)" -gt 0 ]
ended
is "$(od -An -v -tu4 -w4 -j128 "$T/state$N"/traces/sha256/* | xargs)" 85 \
	"what was refused is not noted"
ok "a mount that is read past the page cache" with good
ok "is right as well" cmp "$T/tree/big" \
	<(dd if="$T/m/big" bs=1M iflag=direct status=none)
is "$(stat_of .errors.reads)" 0 "without an error"
ended

ok "notrace" with good ,notrace
is "$(stat_of '[.trace_ranges, .refused]')" '[0,0]' "is as if there were none"
ok "and right" right
ended
for tag in nonsense lies gone; do
	ok "a trace that is $tag" with $tag
	ok "does no harm" right
	ended
done
FAULT='{"kind": "stall", "after": 0, "path": "'$(jq -r \
	'.layers[0].annotations."containerd.io/snapshot/estargz/trace.digest"' \
	<"$T/oci/blobs/sha256/$(cut -d: -f2 "$T/good.digest")")'"}'
ok "a trace that does not come" with good
ok "is not waited for" right
srv_clear
ended

not_ok "nothing was reported by a sanitizer" \
	grep -l -e 'ERROR: .*Sanitizer' -e 'runtime error' "$T"/*.log
done_testing

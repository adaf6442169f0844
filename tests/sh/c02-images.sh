#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Images in local places: what we write skopeo and umoci read, what skopeo writes
# we read; layouts that several write to; archives that are hostile; nothing is
# visible before it is complete.
. "${top_srcdir:-.}/tests/lib.sh"
requires_cmd "$PYTHON" jq skopeo umoci
IMGCTL=$top_builddir/tests/tools/imgctl
[ -x "$IMGCTL" ] || plan_skip "imgctl is not built"
images pause pause-src

imgcopy() { timeout 60 "$IMGCTL" copy "$@" >"$T/out" 2>"$T/err"; }
copy_not() { one_line "$1" "$2" imgcopy "${@:3}"; }
raw() { skopeo inspect --raw "$@" 2>"$T/err"; }
diff_ids() { skopeo inspect --config "$1" | jq -c .rootfs.diff_ids; }
skopeo_copy() { timeout 60 skopeo --insecure-policy copy --quiet "$@"; }
cd "$T" || exit 99
base=oci:$IMAGES:pause-src

### From each to each, and to skopeo ###

ids=$(diff_ids "$base")
ok "to a layout" imgcopy "$base" oci:lay:one
is "$(raw oci:lay:one)" "$(raw "$base")" "... the same manifest"
ok "to an archive of OCI" imgcopy oci:lay:one oci-archive:a.tar:one
is "$(raw oci-archive:a.tar:one)" "$(raw "$base")" "... the same manifest"
ok "to an archive of docker" imgcopy oci-archive:a.tar docker-archive:d.tar:me/it:1
is "$(diff_ids docker-archive:d.tar)" "$ids" "... the same layers"
is "$(tar xOf d.tar manifest.json | jq -c '.[0].RepoTags')" \
	'["docker.io/me/it:1"]' "... and its name"
ok "and back to a layout" imgcopy docker-archive:d.tar:me/it:1 oci:lay:back
is "$(diff_ids oci:lay:back)" "$ids" "... the same layers"
for n in oci:lay:one oci-archive:a.tar docker-archive:d.tar oci:lay:back; do
	ok "skopeo copies $n" skopeo_copy "$n" "dir:out-$(echo "$n" | tr :/ --)"
done
for t in one back; do
	ok "umoci unpacks $t" umoci unpack --image lay:$t um-$t
done
ok "... to the same tree" treecmp --dirs um-one/rootfs um-back/rootfs

### What skopeo writes ###

ok "skopeo writes a layout" skopeo_copy "$base" oci:sk:x
ok "skopeo writes an archive of OCI" skopeo_copy "$base" oci-archive:sk.tar:x
ok "skopeo writes an archive of docker" skopeo_copy "$base" \
	docker-archive:skd.tar:it:1
for n in oci:sk:x oci:sk oci-archive:sk.tar:x oci-archive:sk.tar \
	docker-archive:skd.tar docker-archive:skd.tar:it:1 \
	docker-archive:skd.tar:docker.io/library/it:1; do
	rm -rf o
	ok "we read $n" imgcopy "$n" oci:o:x
	is "$(diff_ids oci:o:x)" "$ids" "... the same layers"
done
copy_not "a name that it does not have" 'no image has the name docker.io/library/it:2' \
	docker-archive:skd.tar:it:2 oci:n:x
copy_not "a tag that it does not have" 'no image has the name y' oci:sk:y oci:n:x
copy_not "a tag of an archive that it does not have" 'no image has the name y' \
	oci-archive:sk.tar:y oci:n:x
ok "... and nothing is left" test ! -e n
# With two of them a name is needed.
imgcopy oci:sk:x oci:sk:y
copy_not "which of two" '2 images are in it' oci:sk oci:n:x

### Indexes ###

# index NAME: an index of two images and an attestation of the first.
"$PYTHON" - lay one <<'END'
import hashlib, json, sys
lay, tag = sys.argv[1:]
def put(b):
    d = hashlib.sha256(b).hexdigest()
    open(lay + "/blobs/sha256/" + d, "wb").write(b)
    return {"digest": "sha256:" + d, "size": len(b)}
index = json.load(open(lay + "/index.json"))
m = [m for m in index["manifests"]
     if m["annotations"]["org.opencontainers.image.ref.name"] == tag][0]
doc = json.load(open(lay + "/blobs/" + m["digest"].replace(":", "/")))
other = put(json.dumps(dict(doc, annotations={"for": "arm64"})).encode())
mt = {"mediaType": "application/vnd.oci.image.manifest.v1+json"}
text = put(b'{"_type":"statement"}')
att = put(json.dumps({"schemaVersion": 2, **mt,
    "config": dict(put(b"{}"), mediaType="application/vnd.oci.image.config.v1+json"),
    "layers": [dict(text, mediaType="application/vnd.in-toto+json")]}).encode())
x = put(json.dumps({"schemaVersion": 2,
    "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [
    {**mt, "digest": m["digest"], "size": m["size"],
     "platform": {"os": "linux", "architecture": "amd64"}},
    {**mt, **other, "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"}},
    {**mt, **att, "platform": {"os": "unknown", "architecture": "unknown"},
     "annotations": {"vnd.docker.reference.digest": m["digest"],
                     "vnd.docker.reference.type": "attestation-manifest"}}]}).encode())
index["manifests"].append(dict(x, mediaType="application/vnd.oci.image.index.v1+json",
    annotations={"org.opencontainers.image.ref.name": "multi"}))
json.dump(index, open(lay + "/index.json", "w"))
END
ok "an index is read by skopeo" skopeo_copy --all --preserve-digests oci:lay:multi oci:skm:multi
for n in oci:lay:multi oci:skm:multi; do
	rm -f m.tar
	ok "an index is copied from $n" imgcopy $n oci-archive:m.tar:multi
	is "$(raw oci-archive:m.tar:multi | jq -c '[.manifests[].platform.architecture]')" \
		'["amd64","arm64","unknown"]' "... with all of it"
	ok "... skopeo takes all of it" skopeo_copy --all oci-archive:m.tar:multi oci:skm:again
done
copy_not "an index to an archive of docker" 'takes one image, no index' \
	oci:lay:multi docker-archive:di.tar
ok "... and nothing is left" test ! -e di.tar
is "$(find . -maxdepth 1 -name 'di.tar*')" "" "... under any name"
is "$("$ESTARGZ" inspect --json --platform linux/arm64 oci:lay:multi |
	jq -r .manifest)" "$(raw oci:lay:multi | jq -r '.manifests[1].digest')" \
	"a platform is chosen"

### Artifacts ###

imgctl() { timeout 60 "$IMGCTL" "$@" 2>"$T/err"; }
type=application/vnd.estargz.test
echo first >first
echo second >second
n=oci:refer:x
ok "an artifact in a layout" imgctl refer oci:lay:one $n $type first
is "$(imgctl referrer $n $type)" first "... is found"
is "$(raw $n)" "$(raw "$base")" "... and the image with it"
first=$(sha256sum <first | cut -d' ' -f1)
for n in oci-archive:refer.tar:x oci-archive:refer2.tar oci:nameless; do
	ok "an artifact in $n" imgctl refer oci:lay:one $n $type first
	is "$(raw $n)" "$(raw "$base")" "... leaves it one image"
	ok "... that skopeo copies by any name" skopeo copy -q \
		"$(cut -d: -f1,2 <<<$n)" oci:copied:x
done
is "$(tar -xOf refer.tar "blobs/sha256/$first")" first "its blob is in an archive"
is "$(cat "nameless/blobs/sha256/$first")" first "... and in a layout"
ok "another one" imgctl refer oci:lay:one oci:refer:x $type second
is "$(imgctl referrer oci:refer:x $type)" second "... is in its place"
is "$(jq '[.manifests[] | select(.artifactType)] | length' refer/index.json)" 1 \
	"... alone"
not_ok "of another type there is none" imgctl referrer oci:refer:x text/plain
not_ok "an archive of docker takes none" imgctl refer oci:lay:one \
	docker-archive:refer-d.tar:x/y $type first
ok "... which is said" grep -q 'has no artifacts' "$T/err"

### Writing ###

# Other names stay, and two at once do not lose each other's.
pids=
for i in 1 2 3 4 5 6; do
	"$IMGCTL" copy oci:lay:one "oci:many:t$i" 2>"$T/err$i" &
	pids="$pids $!"
done
rc=0
for p in $pids; do
	wait "$p" || rc=1
done
is $rc 0 "six write into one new layout at once"
is "$(jq -r '.manifests[].annotations[]' many/index.json | sort | xargs)" \
	"t1 t2 t3 t4 t5 t6" "... and all names are there"
is "$(find many -name '.*' -type f)" "" "... and nothing else"
# Killed at any moment: the layout is as it was.
for i in 1 2 3 4 5; do
	"$IMGCTL" copy "$base" oci:killed:x 2>/dev/null &
	p=$!
	wait_for 5 test -e killed
	kill -9 $p 2>/dev/null
	wait $p 2>/dev/null
	[ ! -e killed/index.json ] || raw oci:killed:x >/dev/null ||
		fail "killed: half an image"
	rm -rf killed/index.json
done
ok "after kills it is made" imgcopy "$base" oci:killed:x
ok "... whole" skopeo_copy oci:killed:x dir:killed-out
is "$(find killed -name '.estargz*')" "" "... and what they left is gone"
# A directory or file that is not ours.
mkdir other
touch other/precious
copy_not "a directory with something else" 'not empty, and no OCI layout' oci:lay:one oci:other:x
is "$(ls -A other)" precious "... is let alone"
mkdir adir
copy_not "an archive in the place of a directory" 'no regular file' oci:lay:one oci-archive:adir:x
copy_not "a directory that cannot be made" 'No such file' oci:lay:one oci:no/where:x
mkdir -p fifo/blobs/sha256
mkfifo fifo/index.json
copy_not "a layout with a FIFO" 'index.json: no regular file' oci:fifo:x oci:n:x
copy_not "to a layout with a FIFO" 'index.json: no regular file' oci:lay:one oci:fifo:x
# What fails leaves what was there.
cp -a lay broken
rm broken/blobs/sha256/"$(raw oci:lay:one | jq -r '.layers[0].digest' | cut -d: -f2)"
cp a.tar before.tar
copy_not "a source without a blob" 'no blob sha256:' oci:broken:one oci-archive:a.tar:one
ok "... leaves the archive as it was" cmp a.tar before.tar
is "$(find . -maxdepth 1 -name 'a.tar?*')" "" "... and nothing beside it"
copy_not "... the same to a layout" 'no blob sha256:' oci:broken:one oci:fresh:x
ok "... which is not there then" test ! -e fresh
gzip -k a.tar
copy_not "an archive in gzip" 'compressed with gzip: unpack it first' oci-archive:a.tar.gz oci:n:x
head -c 5000 a.tar >short.tar
copy_not "a short archive" 'cut short.*Truncated' oci-archive:short.tar oci:n:x
echo text >no.tar
copy_not "no archive" 'no tar archive' docker-archive:no.tar oci:n:x
copy_not "no transport" 'not docker://, oci:' nothing oci:n:x

### Hostile archives ###

"$PYTHON" - d.tar <<'END'
import io, json, sys, tarfile
src = tarfile.open(sys.argv[1])
files = {m.name: src.extractfile(m).read() for m in src if m.isfile()}
m = json.loads(files["manifest.json"])[0]
def write(name, change, files=files):
    t = tarfile.open(name, "w")
    def add(n, data=b"", type=tarfile.REGTYPE, link="", size=None):
        i = tarfile.TarInfo(n)
        i.size, i.type, i.linkname = len(data), type, link
        t.addfile(i, io.BytesIO(data))
    fs = dict(files)
    doc = json.loads(json.dumps(m))
    change(fs, doc, add)
    if doc is not None:
        fs["manifest.json"] = json.dumps([doc] if isinstance(doc, dict) else doc).encode()
    for n, b in fs.items():
        add(n, b)
    t.close()
def links(fs, doc, add):
    """What older dockers write: each layer in a directory, some of them links."""
    for i, l in enumerate(doc["Layers"]):
        add("dir%d/layer.tar" % i, type=tarfile.SYMTYPE, link="../" + l)
        doc["Layers"][i] = "./dir%d/layer.tar" % i
write("links.tar", links)
def hard(fs, doc, add):
    l = doc["Layers"][0]
    add("first", fs.pop(l))
    add(l, type=tarfile.LNKTYPE, link="first")
write("hard.tar", hard)
def circle(fs, doc, add):
    add("a", type=tarfile.SYMTYPE, link="b")
    add("b", type=tarfile.SYMTYPE, link="a")
    doc["Layers"][0] = "a"
write("circle.tar", circle)
def outside(fs, doc, add):
    add("a", type=tarfile.SYMTYPE, link="/etc/passwd")
    doc["Layers"][0] = "a"
write("outside.tar", outside)
def up(fs, doc, add):
    doc["Layers"][0] = "../../../../etc/passwd"
write("up.tar", up)
def twice(fs, doc, add):
    add(doc["Layers"][0], b"another")
write("twice.tar", twice)
def other(fs, doc, add):
    fs[doc["Layers"][0]] = b"not the layer"
write("other.tar", other)
def fewer(fs, doc, add):
    doc["Layers"].pop()
write("fewer.tar", fewer)
def noconfig(fs, doc, add):
    doc["Config"] = "none.json"
write("noconfig.tar", noconfig)
def nomanifest(fs, doc, add):
    add("x")
write("nomanifest.tar", nomanifest)
t = tarfile.open("nomanifest.tar", "w")
t.close()
t = tarfile.open("many.tar", "w")
for i in range(70000):
    t.addfile(tarfile.TarInfo("f%d" % i))
t.close()
# An entry that says it is larger than the file.
b = bytearray(open(sys.argv[1], "rb").read())
at = [i.offset for i in src if i.name == "manifest.json"][0]
b[at + 124:at + 136] = b"%011o\0" % (1 << 32)
b[at + 148:at + 156] = b" " * 8
b[at + 148:at + 156] = b"%06o\0 " % sum(b[at:at + 512])
open("huge.tar", "wb").write(b)
END
for t in links hard; do
	rm -rf o
	ok "layers that are links ($t)" imgcopy docker-archive:$t.tar oci:o:x
	is "$(diff_ids oci:o:x)" "$ids" "... are read"
done
copy_not "links in a circle" 'links in a circle' docker-archive:circle.tar oci:n:x
copy_not "a link out of it" 'no file a' docker-archive:outside.tar oci:n:x
copy_not "a path out of it" 'no file \.\.' docker-archive:up.tar oci:n:x
copy_not "a name that stands twice" 'two entries are called' docker-archive:twice.tar oci:n:x
copy_not "another layer than the config's" 'sha256:.*has the digest sha256:|not a' docker-archive:other.tar oci:n:x
copy_not "fewer layers" 'do not have the same layers' docker-archive:fewer.tar oci:n:x
copy_not "no config" 'no file none.json' docker-archive:noconfig.tar oci:n:x
copy_not "no manifest.json" 'no tar archive|no file manifest.json' docker-archive:nomanifest.tar oci:n:x
copy_not "more entries than an image has" 'more entries' docker-archive:many.tar oci:n:x
copy_not "an entry larger than the file" 'cut short' docker-archive:huge.tar oci:n:x
ok "nothing of these is left" test ! -e n
done_testing

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# estargz optimize: what is recorded of a workload, what becomes of it in the
# image; how the workload is run and when it ends; that nothing of it is left.
. "${top_srcdir:-.}/tests/lib.sh"
. "${top_srcdir:-.}/tests/convert.sh"
requires_mount
requires_convert
requires_fs overlay
requires_cmd busybox umoci runc

### An image: /work reads some of it ###

L=$T/l
mkdir -p "$T/base"/{bin,etc,tmp} "$T/top/tree/in"
cp "$(command -v busybox)" "$T/base/bin/busybox"
for i in sh cat dd wc true sleep id pwd env tty kill ls readlink; do
	ln -s busybox "$T/base/bin/$i"
done
printf '%s\n' root:x:0:0::/root:/bin/sh alice:x:1000:1000::/:/bin/sh \
	>"$T/base/etc/passwd"
printf '%s\n' root:x:0: alice:x:1000: staff:x:50:bob,alice >"$T/base/etc/group"
echo below >"$T/base/over"
echo above >"$T/top/over"
echo yes >"$T/top/read"
echo no >"$T/top/unread"
echo deep >"$T/top/tree/in/file"
head -c 4000000 /dev/urandom >"$T/top/big"
cat >"$T/top/work" <<'END'
#!/bin/sh
cat /read /over /tree/in/file
dd if=/big bs=4096 skip=100 count=2 2>/dev/null | wc -c
dd if=/big bs=4096 skip=500 count=1 2>/dev/null | wc -c
END
printf '\177ELF, or so\n' >"$T/top/garbage"
chmod 755 "$T/top/work" "$T/top/garbage"
for i in base top; do
	tar -C "$T/$i" --sort=name -cf "$T/$i.tar" .
done
mkimage "$L:src" "gzip:$T/base.tar,gzip:$T/top.tar"
umoci config --image "$L:src" --config.entrypoint /bin/sh \
	--config.cmd /work --config.env A=image --config.env B=image \
	--config.user alice --config.workingdir /made/here \
	--config.volume /vol 2>"$T/umoci.log" || bail "$(cat "$T/umoci.log")"
src=$(root "$L" src)

### Helpers ###

# optimize [options] SRC DST [-- command]: what it wrote is in $OUT, and
# $T/optimize.err.
optimize() {
	OUT=$(timeout -k 5 120 "$ESTARGZ" optimize --compression-level 1 -q "$@" \
		2>"$T/optimize.err" </dev/null)
}
optimizes() {
	local d=$1
	shift
	if optimize "$@"; then
		pass "$d"
	else
		fail "$d"
		diag_file "$T/optimize.err"
	fi
}
nothing_left() {
	wait_for 10 no_product_procs && wait_for 5 no_mounts &&
		wait_for 5 no_files && no_containers
}
no_files() { [ -z "$(ls -A "$TMPDIR")" ]; }
# By their cgroups, which have the names of directories that are no more.
no_containers() {
	[ -z "$(find /sys/fs/cgroup -maxdepth 2 -name "${ID:-none}")" ]
}
record() { jq -r "$1" <"$T/record"; }
trace_of() { # TAG: its JSON
	local d
	d=$(doc "$L" "$(root "$L" "$1")" '.layers[0].annotations |
		."containerd.io/snapshot/estargz/trace.digest"')
	doc "$L" "$d"
}

untouched() { [ ! -e "$T/none" ]; }
# fails DESC REGEX ...: one line, exit 1, nothing written.
fails() {
	local d=$1 re=$2 rc
	shift 2
	optimize "$@"
	rc=$?
	is "$rc $(wc -l <"$T/optimize.err")" "1 1" "$d: fails with one line"
	like "$(cat "$T/optimize.err")" "$re" "... which says why"
	ok "... and nothing is written, nor left" \
		eval 'untouched && nothing_left'
}

### What is recorded ###

optimizes "an image, by its own entry point" --record-out "$T/record" \
	--digest-file "$T/digest" "oci:$L:src" "oci:$L:opt"
is "$(sed '$d' <<<"$OUT")" "yes
above
deep
8192
4096" "what it writes is ours"
is "$(tail -n 1 <<<"$OUT")" "$(root "$L" opt)" "the digest comes last"
is "$(cat "$T/digest")" "$(root "$L" opt)" "... and is alone in a file"
ok "nothing is left" nothing_left
is "$(record .path | sort | tr '\n' ' ')" \
	"big bin/busybox etc/group etc/passwd over read tree/in/file work " \
	"the record has what was read, and nothing else"
is "$(record .manifestDigest | sort -u)" "$src" "... of that manifest"
is "$(record 'select(.path == "over" or .path == "big") | .layerIndex' |
	sort -u)" 1 "... of the layer that has the file that is seen"
is "$(record 'select(.path == "big") | [.ranges[][:2]] | tostring')" \
	'[[409600,8192],[2048000,4096]]' "... and of a large file the ranges"
is "$(record 'select(.path == "big" or .path == "read" or .path == "work") |
	.path' | tr '\n' ' ')" "work read big " "... in order"

### What becomes of it ###

opt=$(root "$L" opt)
ok "the image is eStargz" is_esgz "$L" "$opt"
is "$(trace_of opt | jq -r '.layers | sort[]')" \
	"$(layers "$L" "$opt" | sort)" "the trace is about its layers"
# The digest of the bytes that a trace (stdin) names.
named() {
	jq -r '. as {$layers, $reads} | $reads[] |
		"\(.[1]) \(.[2]) \($layers[.[0]][7:])"' | while read -r off n l; do
		tail -c "+$((off + 1))" "$L/blobs/sha256/$l" | head -c "$n"
	done | sha256sum | sed 's/^\([0-9a-f]*\).*/sha256:\1/'
}
is "$(trace_of opt | named)" "$(trace_of opt | jq -r .data)" \
	"its data is the bytes that it names"
ok "... which is there" test -s \
	"$L/blobs/sha256/$(trace_of opt | jq -r '.data[7:]')"
tails() { # of the layers from number $1 on, as their footers say
	local l
	layers "$L" "$opt" | tail -n +$(($1 + 1)) | while read -r l; do
		l=$L/blobs/sha256/${l#sha256:}
		echo $(($(stat -c %s "$l") - 0x$(tail -c 51 "$l" | strings |
			sed -n 's/.*\([0-9a-f]\{16\}\)STARGZ.*/\1/p')))
	done | paste -sd ,
}
is "$(doc "$L" "$opt" '.layers[].annotations |
	."containerd.io/snapshot/estargz/tails"' | tr '\n' ' ')" \
	"$(tails 0) $(tails 1) " "each layer says how long the ends are"
tocs() { # of the layers from number $1 on
	doc "$L" "$opt" '.layers[].annotations |
		."containerd.io/snapshot/stargz/toc.digest"' |
		tail -n +$(($1 + 1)) | paste -sd ,
}
is "$(doc "$L" "$opt" '.layers[].annotations |
	."containerd.io/snapshot/estargz/tocs"' | tr '\n' ' ')" \
	"$(tocs 0) $(tocs 1) " "and what tables of contents are there"
is "$(jq -r --arg d "$opt" '.manifests[] | select(.annotations |
	."vnd.estargz.subject.digest" == $d) | .artifactType' <"$L/index.json" |
	sort | xargs)" "application/vnd.estargz.trace.data.v1 application/vnd.estargz.trace.v1+json" \
	"both refer to the image"
n=$(trace_of opt | jq --arg d "$(layers "$L" "$opt" | tail -n 1)" '
	(.layers | index($d)) as $i |
	[.reads[] | select(.[0] == $i) | .[2]] | add')
ok "... and has little more than what was read ($n bytes)" \
	test "$n" -gt 12288 -a "$n" -lt 15000
mkdir -p "$T/m"
ok "it is mounted" mount_esgz "oci:$L:opt" "$T/m" noprefetch,nobackground
ok "... and has the right bytes" cmp "$T/m/big" "$T/top/big"
ok "... and goes" umount_esgz "$T/m"
converts "the record is taken by convert" --record-in "$T/record" \
	"oci:$L:src" "oci:$L:again"
is "$(layers "$L" "$CONVERTED")" "$(layers "$L" "$opt")" \
	"... which makes the same layers of it"
optimizes "--reuse: of an image that is eStargz" --reuse "oci:$L:opt" \
	"oci:$L:reused"
is "$(layers "$L" "$(root "$L" reused)")" "$(layers "$L" "$opt")" \
	"... the layers are kept"
is "$(trace_of reused | jq -c '[.reads[] | .[1:]] | sort')" \
	"$(trace_of opt | jq -c '[.reads[] | .[1:]] | sort')" \
	"... and get the same trace"
mkimage "$L:index" "linux/$(dpkg --print-architecture)=gzip:$T/base.tar" \
	"linux/mips=gzip:$T/top.tar"
optimizes "an index" --all-platforms "oci:$L:index" "oci:$L:index2" -- \
	cat /etc/group
is "$(doc "$L" "$(root "$L" index2)" '.manifests[].digest' |
	while read -r d; do
		doc "$L" "$d" '.layers[0].annotations | keys[]' |
			grep -c trace.digest
	done | tr '\n' ' ')" "1 0 " "... of which one was run"
# An index may list a manifest twice.
jq -c --arg d "$src" --arg a "$(dpkg --print-architecture)" '.manifests[] |
	select(.digest == $d) |
	{mediaType, digest, size, platform: {os: "linux", architecture: $a}} |
	{schemaVersion: 2, mediaType: "application/vnd.oci.image.index.v1+json",
	manifests: [., (.platform.variant = "v2")]}' <"$L/index.json" >"$T/twice"
d=$(sha256sum <"$T/twice" | cut -d' ' -f1)
cp "$T/twice" "$L/blobs/sha256/$d"
jq -c --arg d "sha256:$d" --argjson n "$(stat -c %s "$T/twice")" '.manifests += [{
	mediaType: "application/vnd.oci.image.index.v1+json", digest: $d, size: $n,
	annotations: {"org.opencontainers.image.ref.name": "twice"}}]' \
	<"$L/index.json" >"$T/index" && cp "$T/index" "$L/index.json"
optimizes "an index that lists it twice" --all-platforms "oci:$L:twice" \
	"oci:$L:twice2"
d=$(doc "$L" "$(root "$L" twice2)" '.manifests[].digest' | sort -u)
t=$(doc "$L" "$d" '.layers[0].annotations |
	."containerd.io/snapshot/estargz/trace.digest"')
is "$(doc "$L" "$t" . | named)" "$(doc "$L" "$t" .data)" \
	"... has one trace, and its data once"

# What the data is made of is read in few requests; where one fails, there is none.
start_srv served --oci "$L"
served() { # WHAT: an eStargz image is optimized
	optimizes "$1" --plain-http --reuse "docker://$SRV_ADDR/a/b@$opt" \
		"oci:$L:served"
}
asked() { # PROGRAM: for which ranges
	srv_ctl "$SRV_URL/_ctl/log" | jq -r --arg a "$1/" 'select(.agent // "" |
		startswith($a)) | .range // ""'
}
served "of a registry"
n=$(trace_of served | jq '.reads | length')
# Behind the first bytes of layers, which are looked at before.
asked estargz | tac | sed '/=0-3$/,$d' >"$T/asked"
at_most "$(wc -l <"$T/asked")" $((n / 4)) "... few requests for $n ranges"
r=$(grep -vxFf <(asked estargzd) "$T/asked" | head -n 1)
srv_fault "{\"kind\": \"status\", \"status\": 403, \"range\": \"^$r\$\"}"
served "... of which a part cannot be had"
like "$(cat "$T/optimize.err")" 'the trace goes without its data: .*status 403' \
	"... which is said"
is "$(trace_of served | jq -c '[.data, (.reads | length > 0)]')" "[null,true]" \
	"... has a trace without data"

start_registry
push "$L:src" o:src || bail "push"
push "$L:opt" o:esgz || bail "push"
before=$(grep -c 'GET /v2/o/blobs' "$REG_LOG")
fails "a program that is not there, in a registry" 'cannot create.*nobody' \
	--plain-http "docker://$REG/o:esgz" "oci:$T/none:x" -- nobody-has-this
at_most $(($(grep -c 'GET /v2/o/blobs' "$REG_LOG") - before)) 12 \
	"... an eStargz image is not fetched for that"
optimizes "into an archive of docker" "oci:$L:src" "docker-archive:$T/d.tar"
like "$(cat "$T/optimize.err")" 'no place for the trace' \
	"... has no trace, and this is said"
optimizes "from one" "docker-archive:$T/d.tar" "oci:$T/x:archive"
like "$(cat "$T/x/index.json")" 'vnd.estargz.trace' "... with a trace"
optimizes "from one, otherwise" --compression-level 2 \
	"docker-archive:$T/d.tar" "oci:$T/x:archive"
is "$(jq '[.manifests[].artifactType] | sort' <"$T/x/index.json" | jq -c)" \
	'[null,"application/vnd.estargz.trace.data.v1","application/vnd.estargz.trace.v1+json"]' \
	"... the trace of what had the name is gone with it"
ok "a layout with a trace is mounted without a tag" \
	mount_esgz "oci:$T/x" "$T/m" noprefetch,nobackground
umount_esgz "$T/m"
for n in "oci-archive:$T/one.tar:web" "oci:$T/one"; do
	optimizes "into what is one image" "oci:$L:src" "$n"
	"$ESTARGZ" inspect --json "$n" >"$T/one.json" 2>"$T/err"
	is "$(jq '.trace.layers' "$T/one.json")" 2 "... its trace is found"
	ok "... and skopeo sees no second image" \
		skopeo copy -q "${n%:web}" "oci:$T/copied:x"
done

optimizes "from a registry to a registry" --plain-http "docker://$REG/o:src" \
	"docker://$REG/o:opt"
d=$(tail -n 1 <<<"$OUT")
t=$(curl -fsS -H 'Accept: application/vnd.oci.image.index.v1+json' \
	"http://$REG/v2/o/manifests/sha256-${d#*:}" |
	jq -r '.manifests[] | select(.artifactType ==
		"application/vnd.estargz.trace.v1+json") | .digest')
t=$(curl -fsS -H 'Accept: application/vnd.oci.image.manifest.v1+json' \
	"http://$REG/v2/o/manifests/$t" | jq -r '.layers[0].digest')
is "$(curl -fsS "http://$REG/v2/o/blobs/$t" | jq -r '.layers | length')" 2 \
	"the trace is behind the tag for referrers"
data=$(curl -fsS "http://$REG/v2/o/blobs/$t" | jq -r .data)
is "sha256:$(curl -fsS "http://$REG/v2/o/blobs/$data" | sha256sum | cut -d' ' -f1)" \
	"$data" "... and its data is there"
converts "an optimised image is copied" --reuse --plain-http "docker://$REG/o:opt" \
	"oci:$T/copy:x"
ok "... with its trace's data" test -s "$T/copy/blobs/sha256/${data#*:}"

### How it is run ###

mkdir -m 755 "$T/mnt"
echo mounted >"$T/mnt/file"
echo C=file >"$T/envs"
optimizes "as the image says" "oci:$L:src" "oci:$T/x:x" -- \
	/bin/sh -c 'id; pwd; env; ls -d /vol; ls /sys/class/net'
like "$OUT" 'uid=1000\(alice\) gid=1000\(alice\) groups=50\(staff\)' \
	"its user and groups"
like "$OUT" '^/made/here$' "its directory, which is made"
like "$OUT" '^A=image$' "its environment"
like "$OUT" '^/vol$' "its volumes are there"
is "$(grep -cE '^(lo|eth|en)' <<<"$OUT")" 1 "and nobody to talk to"
optimizes "as the options say" --user 7:8 --cwd /etc --env A=option --env B \
	--env-file "$T/envs" --entrypoint '["/bin/sh", "-c"]' --args \
	'["id; pwd; env; cat /mnt/file; readlink /proc/self/ns/net"]' \
	--net-host --mount "type=bind,src=$T/mnt,dst=/mnt,options=rbind:ro" \
	"oci:$L:src" "oci:$T/x:x"
like "$OUT" 'uid=7 gid=8' "user and group"
like "$OUT" '^/etc$' "directory"
is "$(grep -E '^[ABC]=' <<<"$OUT" | sort | tr '\n' ' ')" "A=option C=file " \
	"environment"
like "$OUT" '^mounted$' "mounts"
like "$OUT" "^$(readlink /proc/self/ns/net | sed 's/[][]/\\&/g')$" "network"
optimizes "with a terminal" -t "oci:$L:src" "oci:$T/x:x" -- tty
like "$OUT" '^/dev/pts/0' "... is one"
ok "with our input" sh -c 'echo in | "$0" optimize -q -i "$1" "$2" -- cat |
	grep -qx in' "$ESTARGZ" "oci:$L:src" "oci:$T/x:x"

# Whatever it writes; no objects but these.
OUT=$(timeout -k 5 120 "$ESTARGZ" optimize --progress json --ignore-status \
	"oci:$L:src" "oci:$T/x:j" -- sh -c 'cat /etc/passwd >/dev/null
	echo "to \"you\"" >&2; printf "no end\001" >&2; exit 3' \
	2>"$T/optimize.err" </dev/null)
is "$?" 0 "--progress json"
ok "... is all JSON" jq -se 'all(type == "object")' "$T/optimize.err"
is "$(jq -rj '.stderr // ""' "$T/optimize.err")" "to \"you\"
no end$(printf '\001')" "... with what the workload says"
is "$(jq -rc 'keys | join(",")' "$T/optimize.err" | sort -u | xargs)" \
	"bytes,layer,phase,total digest,layers,seconds layer,phase,text message stderr" \
	"... among what we say"
is "$(tail -n 1 "$T/optimize.err" | jq -r .digest)" "$OUT" "... and the summary last"
OUT=$(timeout -k 5 120 "$ESTARGZ" optimize --progress json \
	"oci:$L:src" "oci:$T/x:u" -- sh -c '
	s=é; while [ ${#s} -lt 40000 ]; do s=$s$s; done; printf "x$s" >&2' \
	2>"$T/optimize.err" </dev/null)
is "$(jq -rj '.stderr // ""' "$T/optimize.err" | tr -d é)" "x" \
	"characters stay whole"

# crun does not know both versions of cgroups at once.
if command -v crun >/dev/null; then
	ok "by crun" unshare --mount sh -c '
		umount /sys/fs/cgroup/unified 2>/dev/null
		"$0" optimize -q --runtime crun "$1" "$2" | grep -qx deep' \
		"$ESTARGZ" "oci:$L:src" "oci:$T/x:x"
else
	skip "by crun" "it is not there"
fi

### When it ends ###

fails "a program that is not there" 'cannot create.*nobody-has-this' \
	"oci:$L:src" "oci:$T/none:x" -- nobody-has-this
fails "a user that is not there" 'has no user "eve"' --user eve \
	"oci:$L:src" "oci:$T/none:x"
fails "an image that is not there" "oci:$L:none: " "oci:$L:none" \
	"oci:$T/none:x"
fails "a list that is none" "not a list of strings" --args '{}' "oci:$L:src" \
	"oci:$T/none:x"
fails "a runtime that is not there" "not found" --runtime no-such-runtime \
	"oci:$L:src" "oci:$T/none:x"
fails "a program that fails" 'exit status 3: nothing is written' \
	--record-out "$T/none" "oci:$L:src" "oci:$T/none:x" -- sh -c 'exit 3'
optimizes "a program that may fail" --ignore-status "oci:$L:src" "oci:$T/x:x" \
	-- sh -c 'exit 3'
like "$(cat "$T/optimize.err")" 'exit status 3' "... is told of, no more"
optimize "oci:$L:src" "oci:$T/none:x" -- /garbage
is $? 1 "a program that cannot be executed fails"
like "$(tail -n 1 "$T/optimize.err")" 'exit status [1-9].*nothing is written' \
	"... which is said"
ok "... and nothing is written, nor left" eval 'untouched && nothing_left'
fails "a line that is not written, of a program that ends" \
	'the line "ready" before it ended: nothing is written' \
	--wait-on-line ready "oci:$L:src" "oci:$T/none:x" -- true
fails "a line that is not written in time" 'the line "ready" in 1 s: nothing' \
	--wait-on-line ready --period 1 "oci:$L:src" "oci:$T/none:x" -- \
	sleep 1000
optimizes "a line that need not be written" --ignore-status --period 1 \
	--wait-on-line ready "oci:$L:src" "oci:$T/x:x" -- sleep 1000
like "$(cat "$T/optimize.err")" 'the line "ready" in 1 s; what it has read' \
	"... is told of"
optimizes "a line that is the last" --wait-on-line ready "oci:$L:src" \
	"oci:$T/x:x" -- sh -c 'echo ready; exit 3'
fails "a place where nothing can be" 'oci:/proc/nope:1: ' "oci:$L:src" \
	oci:/proc/nope:1
is "$OUT" "" "... is known before the workload is run"
start_srv lab --push "$T/lab"
srv_fault '{"kind":"status","status":405,"method":"POST","count":-1}'
fails "a registry that is read-only" 'status 405.*read-only' --plain-http \
	"oci:$L:src" "docker://$SRV_ADDR/o:x"
is "$OUT" "" "... is known before the workload is run"
optimizes "until a line matches" --wait-on-line 'ready: [0-9]+$' "oci:$L:src" \
	"oci:$T/x:x" -- sh -c 'echo begin; echo ready: 42 >&2; sleep 1000'
is "$(grep -c 'ready: 42' "$T/optimize.err")" 1 "... which is passed on"
optimizes "until a period is over" --period 1 "oci:$L:src" "oci:$T/x:x" -- \
	sh -c 'echo begin; sleep 1000'
ok "nothing is left" nothing_left

# The rest is told by signals. start: until it has written a line.
start() {
	: >"$T/bg.log"
	setsid "$ESTARGZ" optimize --compression-level 1 -q --period 0 "$@" -- \
		sh -c 'echo begin; sleep 1000' >"$T/bg.log" 2>&1 </dev/null &
	PID=$!
	PIDS+=("$PID")
	wait_for 60 grep -q begin "$T/bg.log" || diag_file "$T/bg.log"
	ID=$(basename "$TMPDIR"/estargz-optimize.*)
	[ -n "$(find /sys/fs/cgroup -maxdepth 2 -name "$ID")" ] ||
		diag "there is no cgroup $ID"
}
start --wait-on-signal "oci:$L:src" "oci:$T/x:signal"
kill -INT $PID
wait $PID
is $? 0 "until a signal"
ok "... then the image is made" grep -q '"signal"' "$T/x/index.json"
for sig in 1 2 15; do
	start "oci:$L:src" "oci:$T/none:x"
	kill -$sig $PID
	wait $PID
	is $? $((128 + sig)) "signal $sig ends it"
	ok "... and all of it" nothing_left
	ok "... and nothing is written" untouched
done
start "oci:$L:src" "oci:$T/none:x"
kill -9 $PID
wait $PID 2>/dev/null
ok "SIGKILL, too" nothing_left
start "oci:$L:src" "oci:$T/none:x"
for p in $(test_procs estargz); do
	! grep -qx estargz-janitor "/proc/$p/comm" || kill -9 "$p"
done
kill -9 $PID
wait $PID 2>/dev/null
ok "with its janitor, something stays" test -d "$TMPDIR/$ID"
optimizes "... until the next one" "oci:$L:src" "oci:$T/x:x"
ok "... takes it away" nothing_left
no_leaks
done_testing

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# estargz trace: a real run as text, JSON, SVG and HTML; names that want to be
# more than names; what cannot be read.
. "${top_srcdir:-.}/tests/lib.sh"
requires_mount
requires_cmd jq
images small-chunk64k
M=$T/m
E=$T/events.jsonl
BLOB=$(layer_blob "$IMAGES" small-chunk64k 0)
trace() { timeout 30 "$ESTARGZ" trace "$@"; }
xml_ok() { "$PYTHON" -c 'import sys, xml.dom.minidom as m; m.parse(sys.argv[1])' "$1"; }

mount_esgz "$BLOB" "$M" "toc_digest=$(layer_toc "$IMAGES" small-chunk64k 0),noreadahead,noprefetch,nobackground,events=$E" ||
	bail "cannot mount"
timeout 30 dd if="$M/usr/bin/bash" of=/dev/null bs=4096 skip=3 count=2 status=none
timeout 30 dd if="$M/usr/bin/bash" of=/dev/null bs=4096 skip=40 count=1 status=none
timeout 30 cat "$M/usr/bin/true" >/dev/null
umount_esgz "$M"
wait_for 10 no_mount_procs

true_pages=$((($(tar -tvf "$LAYERS/small.tar" ./usr/bin/true | awk '{ print $3 }') + 4095) / 4096))
trace --json --rtt 100000 --top 2 "$E" >"$T/json"
is "$(jq -c '[.run, .runs, .reads.files, .touched.pages, .waits.over_rtt, .lost, .skipped]' "$T/json")" \
	"[1,1,2,$((3 + true_pages)),0,0,0]" "counts what was read"
is "$(jq '.reads.count' "$T/json")" "$(jq -s 'map(select(.e == "read")) | length' "$E")" \
	"... every read of it"
is "$(jq '.waits.longest_us' "$T/json")" "$(jq -s 'map(select(.w == "wait") | .d) | max' "$E")" \
	"... and the longest wait"
is "$(jq '.longest | length' "$T/json")" 2 "--top limits the list"
is "$(jq '.fetched.demand' "$T/json")" "$(jq '.touched.compressed_bytes' "$T/json")" \
	"on demand only the chunks that were touched were fetched"
ok "... and what was fetched ahead of them is in the ratio" jq -e '
	(.ratios.fetched_chunks * .touched.compressed_bytes -
		(.fetched | .demand + .ahead + .prefetch + .background) | fabs) < 1000' "$T/json"
trace --rtt 0.001 "$E" >"$T/text"
like "$(cat "$T/text")" 'longer than a round trip of 0.00 ms' "--rtt is answered"
like "$(cat "$T/text")" 'demand +0  usr/bin/bash [0-9]+\+4096' "the table names the file"
like "$(trace --to 0 --from 0 "$E" 2>&1)" 'nothing is between' "an empty window is refused"
is "$(trace --until-idle=1000 --json "$E" | jq .reads.count)" "$(jq .reads.count "$T/json")" \
	"a window that never ends is all of it"

ok "a picture" trace -o "$T/run.svg" "$E"
ok "... is XML" xml_ok "$T/run.svg"
like "$(cat "$T/run.svg")" '>usr/bin/bash<title>' "... with the file in it"
ok "a page" trace -o "$T/run.html" "$E"
like "$(cat "$T/run.html")" '<td><code>usr/bin/bash</code>' "... with a table of waits"
is "$(grep -ciE '<script|(href|src)=|url\(|@import' "$T/run.html" "$T/run.svg")" "$T/run.html:0
$T/run.svg:0" "neither fetches or runs anything"

# ---- hostile names -------------------------------------------------------------

{
	head -1 "$E" | jq -c '.source = "</title><script>alert(1)</script>&\u001b[2J"'
	jq -c 'select(.e == "read")' "$E" | head -1 >"$T/read"
	jq -c '.p = "</text><script>x</script>\"&" | .n = 4097' <"$T/read"
	jq -c '.p = "new\nline\u001b]0;title\u0007\u202egnp.exe"' <"$T/read"
	sed 's|"p":"[^"]*"|"p":"'$'\xff\xfe''x"|' "$T/read"
	echo '{"t":1,'
	printf '{"t":%s}\n' "$(head -c 70000 /dev/zero | tr '\0' 9)"
	head -c 1000 /dev/urandom | tr -d '\n'
	echo
	cat "$T/read"
} >"$T/hostile"
ok "hostile names are drawn" trace -o "$T/hostile.svg" "$T/hostile"
ok "... as XML" xml_ok "$T/hostile.svg"
ok "... and on a page" trace -o "$T/hostile.html" "$T/hostile"
is "$(cat "$T"/hostile.{svg,html} | grep -c '<script')" 0 "... as what they are"
trace "$T/hostile" >"$T/text" || fail "hostile names are printed"
is "$(LC_ALL=C tr -d '\n\40-\176\200-\377' <"$T/text" | wc -c)" 0 "no control characters on a terminal"
like "$(cat "$T/text")" '3 lines are none' "what is no event is counted"
ok "--json stays JSON" jq -e '.skipped == 3' <(trace --json "$T/hostile")

# ---- places --------------------------------------------------------------------

mkdir "$T/dir"
cp "$E" "$T/dir/a.jsonl"
mkfifo "$T/dir/pipe.jsonl"
echo garbage >"$T/dir/other"
is "$(trace --json "$T/dir" | jq -c '[.reads.count, .skipped]')" \
	"[$(jq .reads.count "$T/json"),0]" "of a directory what is a .jsonl file"
is "$(trace --json - <"$E" | jq .reads.count)" "$(jq .reads.count "$T/json")" "standard input"
cat "$E" >>"$T/dir/a.jsonl"
# The second run of the same times: both were there at once.
is "$(trace --json "$T/dir" | jq .runs)" 1 "what was at the same time is one run"

# bad REGEX ARG...: exit 1 and one line
bad() {
	local re=$1 rc
	shift
	trace "$@" >"$T/out" 2>"$T/err"
	rc=$?
	is "$rc $(wc -l <"$T/err") $(wc -c <"$T/out")" "1 1 0" "refused: $*"
	like "$(cat "$T/err")" "$re" "... and why"
}
bad 'none: No such file' "$T/none"
bad 'no line is an event' /etc/passwd
bad 'no events are recorded' /dev/null
bad 'FILE or DIR is needed'
bad 'there is no run 2, only 1' --run 2 "$E"
bad 'x.png: not a name that ends in .svg or .html' -o "$T/x.png" "$E"
bad '/nowhere/x.svg: No such file' -o /nowhere/x.svg "$E"
bad '--rtt x: not a number' --rtt x "$E"
bad '--from nan: not a number' --from nan "$E"
bad '--rows 0: not a number' --rows 0 "$E"
done_testing

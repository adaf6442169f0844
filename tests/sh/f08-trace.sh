#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Traces: what they name is fetched once, in their order over all blobs, before
# it is asked for; and what goes wrong with that harms no READ.
# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/../..}/tests/lib.sh"
requires_cmd curl jq
FETCHCTL=${FETCHCTL:-$top_builddir/tests/tools/fetchctl}
[ -x "$ESTARGZD" ] && [ -x "$FETCHCTL" ] || plan_skip "not built"

ctl() { timeout 60 "$FETCHCTL" -s "$FETCHER" "$@" 2>"$T/ctl.err"; }
file() { echo "$T/oci/blobs/sha256/$1"; }
# Another one for each estargzd: what one has asked for may be logged when it has
# ended, and the log was emptied.
repo() { echo "$HOST/n$N/b"; }
blob() { echo "$(repo)@sha256:${D[$1]}"; }
same() { # N OFF LEN ARGS...: what fetchctl writes is that part of blob N
	local n=$1 off=$2 len=$3
	shift 3
	ctl "$@" >"$T/got" || return 1
	tail -c "+$((off + 1))" "$(file "${D[$n]}")" | head -c "$len" |
		cmp - "$T/got"
}
# range N OFF LEN [OPTIONS]: a READ with the trace.
range() {
	local n=$1 off=$2 len=$3
	shift 3
	same "$n" "$off" "$len" -T "sha256:$TRACE" "$@" \
		read "$(blob "$n")" "$off" "$len" "${CLASS:-1}"
}
status() { ctl status | jq -c "$1"; }
status_is() { [ "$(status "$1")" = "$2" ]; }
gets() { srv_count "path=/n$N/b/blobs/&method=GET${1:+&$1}"; }
# Where the trace is late, the opening of a blob is asked for before.
OPENING='range=^bytes=0-262143$'
# But for the opening and a trace's data. Two bytes are asked for beside all that.
asked_are() {
	[ $(($(gets) - $(gets "$OPENING") - $(srv_count "path=$DATA"))) = "$1" ]
}
gets_are() { [ "$(gets "$1")" = "$2" ]; }
put() { # FILE: into the registry; sets H
	H=$(sha256sum <"$1")
	H=${H%% *}
	mv "$1" "$(file "$H")"
}
# trace READS [MORE]: sets TRACE
trace() {
	printf '{"version":1,"layers":["sha256:%s","sha256:%s"],"reads":[%s]%s}' \
		"${D[0]}" "${D[1]}" "$1" "${2:+,$2}" >"$T/trace"
	put "$T/trace"
	TRACE=$H
}
warm() { ctl warm "+$(repo)@sha256:$TRACE" "$@"; }
DATA=none
N=0
fresh() {
	N=$((N + 1))
	stop_estargzd
	srv_clear
	srv_reset
	start_estargzd "d$N" --config "$T/conf.toml" --log-level debug
}

mkdir -p "$T/oci/blobs/sha256" "$T/spool"
for i in 0 1; do
	head -c 8000000 /dev/urandom >"$T/blob"
	put "$T/blob"
	D[$i]=$H
done
# No transfer is given up for being slow here.
printf 'spool_dir = "%s"\nhosts_dir = "%s"\nstall_timeout_s = 300\n' \
	"$T/spool" "$T" >"$T/conf.toml"
start_srv srv --oci "$T/oci"
HOST=$SRV_ADDR

### From WARM on ###

trace '[1,1000000,100000],[0,2000000,50000],[1,3000000,100],[1,1000000,100000]'
fresh
ok "WARM with a trace" warm -t 4096 "$(blob 0)" "$(blob 1)"
ok "all it names comes" wait_for 10 status_is .trace_bytes 150100
is "$(gets 'range=^bytes=1000000-1099999$')" 1 "once, though it is named twice"
ok "one request for each range, for each end, for the trace, and for two bytes" \
	wait_for 10 asked_are 7
ok "a client is told" ctl -T "sha256:$TRACE" hints "$(blob 1)"
ctl -T "sha256:$TRACE" hints "$(blob 1)" >"$T/hints"
is "$(tr '\n' ' ' <"$T/hints")" "1000000 100000 3000000 100 " \
	"of its blob, in that order"
ok "so is who opens it four times" ctl -n 4 -T "sha256:$TRACE" hints "$(blob 1)"
not_ok "nobody is told of more" ctl -n 5 -T "sha256:$TRACE" hints "$(blob 1)"
like "$(cat "$T/ctl.err")" 'no hints will come' "who opens it again hears that"
n=$(gets)
ok "a READ of a range" range 0 2000000 50000
ok "of a part of one" range 1 1000000 60000
ok "of the rest of it" range 1 1060000 40000
is "$(gets)" "$n" "no request for that"
is "$(status .trace_reads)" 3 "they are counted"
is "$(status .trace_bytes)" 100 "what was given out is not kept"
ok "a READ of that again" range 0 2000000 50000
ok "of more than a range" range 1 2999000 3000
is "$(gets)" $((n + 2)) "asks for it"

### The opening ###

# late: WARM, of which the trace comes when the opening was asked for.
late() {
	fresh
	srv_fault "{\"kind\": \"delay\", \"ms\": 60000, \"path\": \"$TRACE\"}"
	warm -t 4096 "$(blob 0)" "$(blob 1)" || return 1
	wait_for 10 gets_are "$OPENING" 1
	srv_clear
}
trace '[0,100000,1000],[1,100000,1000],[0,262000,1000]'
ok "what the first blob begins with does not wait for the trace" late
ok "... which says what else comes" wait_for 10 status_is .trace_bytes 264000
ctl -T "sha256:$TRACE" hints "$(blob 0)" >"$T/hints"
is "$(tr '\n' ' ' <"$T/hints")" "0 262144 262144 856 " \
	"as far as it names it, it is the first range"
n=$(gets)
ok "a READ of it" range 0 100000 1000
ok "of it and of what follows" range 0 262000 1000
is "$(gets)" "$n" "no request for that"
is "$(gets 'range=^bytes=0-......$')" 1 "of the other blob, the opening was not asked for"
trace '[0,1000,1000],[1,100000,1000]'
ok "a trace that names little of it" late
ok "the rest is not kept" wait_for 10 status_is .trace_bytes 3000
ok "a READ of what is" range 0 1000 1000
trace '[1,100000,1000]'
ok "a trace that names nothing of it" late
ok "nothing of it is kept" wait_for 10 status_is .trace_bytes 1000
ok "a READ of it" range 0 100 1000
trace '[7,0,1]'
ok "a late trace that is nonsense" late
ok "a READ then" range 0 100 1000
is "$(status '[.trace_bytes, .failed]')" '[0,{}]' "nothing is held, nothing has failed"
fresh
srv_fault "{\"kind\": \"delay\", \"ms\": 60000, \"path\": \"$TRACE\"}"
srv_fault '{"kind": "status", "status": 404, "range": "^bytes=0-262143$"}'
trace '[0,100000,1000]'
warm -t 4096 "$(blob 0)"
ok "an opening that cannot be had" range 0 100000 1000
stop_estargzd

### Order ###

# By one connection, because several may overtake each other.
one_by_one() {
	sed '1iconnections_per_host = 1' "$T/conf.toml" >"$T/one.toml"
	N=$((N + 1))
	stop_estargzd
	srv_reset
	start_estargzd one --config "$T/one.toml" --log-level debug
}

# Ten ranges, of both blobs by turns; nothing of it comes before all was said.
reads=
want=
for i in 1 2 3 4 5 6 7 8 9 10; do
	reads+=",[$((i % 2)),$((8000000 - i * 700000)),200000]"
	want+="$((8000000 - i * 700000)) "
done
trace "${reads#,}"
one_by_one
warm -t 4096 "$(blob 0)" "$(blob 1)"
ok "ten ranges of two blobs" wait_for 10 status_is .trace_bytes 2000000
is "$(srv_ctl "$SRV_URL/_ctl/log" | jq -r '.range // ""' |
	sed -n 's/^bytes=\([0-9]\{5,\}\)-.*/\1/p' | tr '\n' ' ')" "$want" \
	"are asked for in its order"

### From OPEN on; demand ###

fresh
ok "OPEN begins it as well" ctl -T "sha256:$TRACE" hints "$(blob 0)"
ok "for its blob only" wait_for 10 status_is .trace_bytes 1000000
is "$(gets 'range=^bytes=7300000-')" 0 "and no other"
fresh
srv_fault '{"kind": "stall", "after": 0, "range": "^bytes=6600000-", "count": 1}'
warm -t 4096 "$(blob 0)"
ok "a range that stalls" wait_for 10 gets_are 'range=^bytes=6600000-' 1
ok "a READ of it goes its own way, in the end" range 0 6600000 200000
is "$(gets 'range=^bytes=6600000-')" 2 "and is the second to ask"
fresh
srv_fault '{"kind": "status", "status": 503, "range": "^bytes=5200000-", "count": 1}'
warm -t 4096 "$(blob 0)"
ok "a range that fails" wait_for 10 status_is .trace_bytes 800000
ok "is asked for by who wants it" range 0 5200000 200000
is "$(status .failed)" '{}' "nothing has failed for a client"
fresh
srv_fault '{"kind": "ignore-range", "path": "blobs"}'
warm -t 4096 "$(blob 0)"
ok "a server that ignores ranges" range 0 6600000 200000

# Demand does not wait for what is not asked for yet.
fresh
srv_fault '{"kind": "stall", "after": 0, "range": "^bytes=(6|7)"}'
trace "[0,6000000,500000],[0,6600000,500000],[0,7100000,500000],[0,7600000,400000],[0,1000000,1000]"
warm -t 4096 "$(blob 0)"
ok "a plan that stalls" wait_for 10 gets_are 'range=^bytes=6000000-' 1
CLASS=0 ok "does not hold up demand for what comes later in it" \
	range 0 1000000 1000

### Data ###

# with_data READS: of what they name; sets DATA, TRACE
with_data() {
	local n off len
	jq -r '.[] | "\(.[0]) \(.[1]) \(.[2])"' <<<"[$1]" |
		while read -r n off len; do
			tail -c "+$((off + 1))" "$(file "${D[$n]}")" |
				head -c "$len"
		done >"$T/data"
	put "$T/data"
	DATA=$H
	trace "$1" "\"data\":\"sha256:$DATA\""
}
with_data '[1,1000000,100000],[0,2000000,50000],[1,3000000,600000],[0,2060000,1]'
fresh
warm -t 4096 "$(blob 0)" "$(blob 1)"
ok "a trace with data: all it names comes" wait_for 10 status_is .trace_bytes 750001
ok "from there: else for each end, for the trace, and for two bytes" \
	wait_for 10 asked_are 4
ctl -T "sha256:$TRACE" hints "$(blob 0)" >"$T/hints"
is "$(tr '\n' ' ' <"$T/hints")" "2000000 50000 2060000 1 " \
	"what lies between is not named"
ok "a READ" range 0 2000000 50000
ok "of another blob, of two ranges" range 1 3000000 600000
ok "of a byte" range 0 2060000 1
is "$(status .trace_reads)" 3 "they are of the trace"
fresh
srv_fault "{\"kind\": \"status\", \"status\": 404, \"path\": \"$DATA\"}"
warm -t 4096 "$(blob 0)" "$(blob 1)"
ok "data that is not there: all comes" wait_for 10 status_is .trace_bytes 750001
ok "... from the blobs" range 1 3000000 600000
is "$(status '[.trace_reads, .failed]')" '[1,{}]' "... and nothing has failed"
with_data '[1,1000000,400000]'
fresh
srv_fault "{\"kind\": \"stall\", \"after\": 200000, \"path\": \"$DATA\"}"
warm -t 4096 "$(blob 1)"
ok "data that stalls" ctl -T "sha256:$TRACE" hints "$(blob 1)"
ok "... is given out as far as it came" range 1 1000000 400000
is "$(gets 'range=^bytes=1......-') $(gets 'range=^bytes=1200000-1399999$')" \
	"1 1" "... and the blob is asked for the rest"
with_data '[0,0,200000],[1,2000000,150000],[0,3000000,1000]'
head -c 300000 "$(file "$DATA")" >"$T/data"
put "$T/data"
trace '[0,0,200000],[1,2000000,150000],[0,3000000,1000]' "\"data\":\"sha256:$H\""
fresh
warm -t 4096 "$(blob 0)" "$(blob 1)"
ok "data that ends too soon: all comes" wait_for 10 status_is .trace_bytes 351000
ok "... what it has in part, from the blobs" range 1 2000000 150000
ok "... what it has not, as well" range 0 3000000 1000
is "$(status .trace_reads) $(grep -c 'does not get on' "$T/d$N.log")" "2 0" \
	"... and nobody has waited in vain"

# Of small reads with little between them.
reads=$(seq 1000000 6000 1594000 | sed 's/.*/[0,&,5000]/' | paste -sd,)
small() { # WHAT BYTES: all comes; sets ASKED, requests to the layer
	fresh
	[ -z "${FAULT:-}" ] || srv_fault "$FAULT"
	warm -t 4096 "$(blob 0)"
	ok "$1: all comes" wait_for 10 status_is .trace_bytes "$2"
	ASKED=$(srv_count "path=${D[0]}&range=^bytes=1......-")
}
with_data "$reads"
FAULT="{\"kind\": \"status\", \"status\": 404, \"path\": \"$DATA\"}" \
	small "a hundred reads whose data is not there" 500000
ok "... in large requests ($ASKED)" [ "$ASKED" -le 3 ]
head -c 250000 "$(file "$DATA")" >"$T/data"
put "$T/data"
DATA=$H
trace "$reads" "\"data\":\"sha256:$DATA\""
small "a hundred reads whose data ends halfway" 500000
ok "... in large requests ($ASKED)" [ "$ASKED" -le 3 ]
is "$(grep -c "goes on without its data.*data=sha256:$DATA" "$T/d$N.log")" 1 \
	"... and that is said once"

# Wrong data, of a registry with a mirror, which is asked first.
mkdir "$T/two.test"
cat >"$T/two.test/hosts.toml" <<END
server = "http://$HOST"
[host."http://$HOST/v2/first"]
  capabilities = ["pull", "resolve"]
  override_path = true
END
asked() { # WHO RANGE: how often, for the layer
	srv_count "path=^/v2/$1/.*${D[0]}&range=^bytes=$2"
}
head -c 300000 /dev/zero >"$T/data"
put "$T/data"
DATA=$H
trace '[0,1000000,100000],[0,2000000,100000],[0,3000000,100000]' \
	"\"data\":\"sha256:$DATA\""
HERE=$HOST
HOST=two.test
fresh
warm -t 4096 "$(blob 0)"
ok "data that is wrong comes" wait_for 10 status_is .trace_bytes 300000
not_ok "... and is given out" range 0 1000000 100000
ok "who finds it wrong gets what is right" range 0 1000000 100000 -o
is "$(asked first 1000000-)" 1 "... of the layer"
ok "the rest comes again" wait_for 10 status_is .trace_bytes 200000
is "$(asked first 2000000-) $(asked first 3000000-)" "1 1" "... of the layer, too"
ok "... and is right" range 0 2000000 100000
ok "so is what nobody has named" range 0 5000000 1000
is "$(asked "n$N" .)" 0 "nothing is held against the layer's host"
is "$(grep -c "data of a trace is wrong.*trace=two.test/n$N/b@sha256:$TRACE data=sha256:$DATA " \
	"$T/d$N.log")" 1 "it is said once, with its digest"
ok "what is wrong of the layer" range 0 1000000 100000 -o
is "$(asked "n$N" 1000000-)" 1 "... is asked for elsewhere"
# Right data, and later a host that is wrong of the same bytes.
HOST=$HERE
with_data '[0,1000000,100000],[0,2000000,100000]'
HOST=two.test
fresh
warm -t 4096 "$(blob 0)"
ok "data that is right comes" wait_for 10 status_is .trace_bytes 200000
ok "... and is given out" range 0 1000000 100000
srv_fault '{"kind": "flip", "every": 1000, "path": "^/v2/first/.*'"${D[0]}"'"}'
not_ok "what the host sends later is wrong" range 0 1000000 100000
ok "who finds that gets what is right" range 0 1000000 100000 -o
is "$(asked first 1000000-) $(asked "n$N" 1000000-)" "1 1" "... of another host"
is "$(status .trace_bytes)" 100000 "the data is kept"
HOST=$HERE
# Two traces of the same bytes, both with wrong data.
for i in 1 2; do
	head -c "${i}00000" /dev/zero >"$T/data"
	put "$T/data"
	DATA=$H
	trace "[0,1000000,${i}00000]" "\"data\":\"sha256:$DATA\""
	[ $i = 2 ] || ONE=$TRACE
done
fresh
warm -t 4096 "$(blob 0)"
ctl warm "+$(repo)@sha256:$ONE" -t 4096 "$(blob 0)"
ok "two times data that is wrong" wait_for 10 status_is .trace_bytes 300000
not_ok "... is given out" range 0 1000000 100000
ok "who finds that gets what is right, at once" range 0 1000000 100000 -o
# Sixty thousand bytes, one here and one there, none of which come.
n=$(awk 'BEGIN { for (i = 0; i < 60000; i++) printf "%s[0,%d,1]",
	i ? "," : "", 1000000 + 100 * i }')
head -c 60000 /dev/zero >"$T/data"
put "$T/data"
DATA=$H
trace "$n" "\"data\":\"sha256:$DATA\""
fresh
srv_fault '{"kind": "stall", "path": "'"$DATA"'"}'
warm -t 4096 "$(blob 0)"
data_is_asked() { [ "$(srv_count "path=$DATA")" -gt 0 ]; }
ok "a trace of many small reads" wait_for 10 data_is_asked
at_most "$(awk '/^RssAnon/ { print $2 }' "/proc/$ESTARGZD_PID/status")" 20000 \
	"... takes no memory for all of them at once (KiB)"
stop_estargzd

### No good ###

none() { # NAME
	ok "$1: WARM" warm -t 4096 "$(blob 0)"
	ctl -T "sha256:$TRACE" hints "$(blob 0)" >"$T/hints"
	is "$(cat "$T/ctl.err" "$T/hints")" none "$1: there are no hints"
	ok "$1: a READ" range 0 6600000 200000
	is "$(status .failed)" '{}' "$1: nothing has failed"
}
fresh
srv_fault "{\"kind\": \"status\", \"status\": 404, \"path\": \"$TRACE\"}"
none "a trace that is not there"
is "$(srv_count "path=$TRACE")" 1 "is asked for once"
trace '[7,0,1]'
fresh
none "a trace that is nonsense"
is "$(srv_count "path=$TRACE")" 1 "is asked for once, too"
trace '[0,1,1]'
echo >>"$(file "$TRACE")"
fresh
none "a trace of another digest"
head -c 3000000 /dev/zero | tr '\0' ' ' >"$T/trace"
put "$T/trace"
TRACE=$H
fresh
none "a trace that is too large"
TRACE=nonsense
fresh
ok "a name that is none" ctl warm "+$(repo)@sha256:1" "$(blob 0)"
ok "a READ with a digest that is none" range 0 6600000 200000

### Hostile ones ###

trace '[0,7999999,9000000000000000000],[0,9000000000000000000,5],[1,0,99999999]'
fresh
warm -t 4096 "$(blob 0)"
ok "ranges behind the end" range 0 7999000 1000
stop_estargzd
reads=$(seq 1 65536 | sed 's/.*/[0,&000,900]/' | tr '\n' ',')
trace "${reads%,}"
fresh
warm -t 4096 "$(blob 0)"
ok "many ranges" range 0 5000000 900
ok "what is held is bounded" [ "$(status .trace_bytes)" -le 16777216 ]
stop_estargzd

not_ok "nothing was reported by a sanitizer" \
	grep -l -e 'ERROR: .*Sanitizer' -e 'runtime error' "$T"/*.log
done_testing

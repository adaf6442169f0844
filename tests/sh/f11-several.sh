#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Requests of several ranges: what a trace names, of hosts that take them. Those
# that answer in any other way are asked for one range at a time from then on,
# and every READ gets the right bytes.
# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/../..}/tests/lib.sh"
requires_cmd curl jq docker-registry
FETCHCTL=${FETCHCTL:-$top_builddir/tests/tools/fetchctl}
[ -x "$ESTARGZD" ] && [ -x "$FETCHCTL" ] || plan_skip "not built"

ctl() { timeout 60 "$FETCHCTL" -s "$FETCHER" "$@" 2>"$T/ctl.err"; }
# Another one for each estargzd: what one has asked for may be logged when it has
# ended, and the log was emptied.
repo() { echo "$HOST/n$N/b"; }
blob() { echo "$(repo)@sha256:$BLOB"; }
file() { echo "$T/oci/blobs/sha256/$1"; }
put() { # FILE: into the registry; sets H
	H=$(sha256sum <"$1")
	H=${H%% *}
	mv "$1" "$(file "$H")"
}
# trace FIRST [NUMBERS]: sets TRACE; ranges of LEN bytes, the last one first.
STEP=300000
LEN=3000
trace() {
	local i reads=
	for i in ${2:-3 2 1 0}; do
		reads+=",[0,$(($1 + i * STEP)),$LEN]"
	done
	printf '{"version":1,"layers":["sha256:%s"],"reads":[%s]}' \
		"$BLOB" "${reads#,}" >"$T/trace"
	put "$T/trace"
	TRACE=$H
}
range() { # OFF [OPTIONS]: a READ of a range of the trace; all of it is right
	local off=$1
	shift
	ctl -T "sha256:$TRACE" "$@" read "$(blob)" "$off" $LEN \
		"${CLASS:-1}" >"$T/got" || return 1
	tail -c "+$((off + 1))" "$(file "$BLOB")" | head -c $LEN | cmp - "$T/got"
}
ranges() { # FIRST: all four
	local i
	for i in 0 1 2 3; do
		range $(($1 + i * STEP)) || return 1
	done
}
warm() { # FIRST [NUMBERS]: a trace is followed
	trace "$@"
	ctl warm "+$(repo)@sha256:$TRACE" -t 4096 "$(blob)"
}
PROBE='bytes=0-0,255-255'
count() { srv_count "path=/(n$N|cdn)/&range=$1"; }
probes() { count "^$PROBE\$"; }
probes_are() { [ "$(probes)" = "$1" ]; }
# Of several, but not of these two bytes.
several() { echo $(($(count ,) - $(probes))); }
several_are() { [ "$(several)" = "$1" ]; }
single() { count "^bytes=$1......-.......\$"; }
status() { ctl status | jq -c "$1"; }
status_is() { [ "$(status "$1")" = "$2" ]; }
N=0
# come FIRST: a trace, until all of it is there.
come() {
	local held
	held=$(status .trace_bytes)
	warm "$1" && wait_for 10 status_is .trace_bytes $((held + 4 * LEN))
}
# fresh FAULT...: what is known of the server now comes from a first trace, of
# one range, behind the opening of the blob: how soon it comes makes no difference.
fresh() {
	N=$((N + 1))
	stop_estargzd
	srv_reset
	srv_fault "$@"
	start_estargzd "d$N" --config "$T/conf.toml" --log-level debug
	warm 500000 0
	ok "$NAME: a first trace" wait_for 10 status_is .trace_bytes $LEN
	ok "$NAME: is right" range 500000
}
log() { cat "$T/d$N.log"; }
answers() { log | grep -c "several ranges.* taken=$1"; }
known() { # 0|1 [N]: the answer to the question is there, for the Nth time
	[ "$(answers "$1")" -ge "${2:-1}" ]
}
RIGHT='{"kind": "several", "range": "^'$PROBE'$"}'

mkdir -p "$T/oci/blobs/sha256" "$T/spool"
head -c 8000000 /dev/urandom >"$T/blob"
put "$T/blob"
BLOB=$H
printf 'spool_dir = "%s"\nhosts_dir = "%s"\nstall_timeout_s = 300\n' \
	"$T/spool" "$T" >"$T/conf.toml"
start_srv srv --oci "$T/oci"
HOST=$SRV_ADDR

### A host that takes them ###

NAME="right"
fresh '{"kind": "several"}'
ok "it is asked" wait_for 10 known 1
ok "then a trace comes" come 1000000
is "$(several)" 1 "in one request"
want=bytes=
for i in 0 1 2 3; do
	want+=$((1000000 + i * STEP))-$((1000000 + i * STEP + LEN - 1)),
done
is "$(count "^${want%,}\$")" 1 "of its ranges, as they lie in the blob"
ok "the bytes are right" ranges 1000000
is "$(several) $(single 1)" "1 0" "and are not asked for again"
is "$(probes)" 1 "it was asked once whether it takes them"
is "$(status .trace_bytes)" 0 "what was given out is not kept"
# Traces that go on behind the end of a blob, of which nobody has said how long
# it is: that what is not there does not come is no lie.
first=$BLOB
n=$(several)
for size in 1001000 700000 400000 1000; do
	head -c $size /dev/urandom >"$T/blob"
	put "$T/blob"
	BLOB=$H
	trace 100000
	n=$((n + 1))
	ok "a blob of $size bytes" ctl -T "sha256:$TRACE" \
		hints "$(blob)"
	ok "... is asked for several ranges" wait_for 10 several_are $n
	ok "... of which what there is is right" ranges 100000
done
BLOB=$first
ok "a trace of the first one" come 3000000
is "$(several)" $((n + 1)) "is one request again"
is "$(status .failed)" '{}' "nothing has failed"

### Liars ###

# liar NAME FAULT: it tells the truth when it is asked, and then does not.
liar() {
	NAME=$1
	fresh "$RIGHT" "$2"
	ok "$NAME: it says that it takes them" wait_for 10 known 1
	ok "$NAME: a trace comes" come 1000000
	ok "$NAME: the bytes are right" ranges 1000000
	is "$(several)" 1 "$NAME: asked for several once"
	ok "$NAME: and another" come 3000000
	ok "$NAME: right, too" ranges 3000000
	is "$(several)" 1 "$NAME: and never again"
	is "$(status '[.failed, .spool_bytes]')" '[{},0]' \
		"$NAME: nothing has failed, nothing is spooled"
}
for how in reverse twice early short long elsewhere total none left-out cut \
	endless lines noise first span; do
	liar "$how" "{\"kind\": \"several\", \"how\": \"$how\", \"range\": \",\"}"
done
for s in 400 403 416 501; do
	liar "status $s" "{\"kind\": \"status\", \"status\": $s, \"range\": \",\"}"
done
liar "ignores ranges" '{"kind": "ignore-range", "range": ","}'
# Its storage says 200.
liar "redirect" '{"kind": "redirect"}'

# Of these nothing is said in headers. What is found out by content is up to who
# reads; he has another source then.
NAME="other bytes"
fresh "$RIGHT" '{"kind": "several", "how": "bytes", "range": ","}'
ok "$NAME: it says that it takes them" wait_for 10 known 1
ok "$NAME: a trace" come 1000000
not_ok "$NAME: are delivered" range 1000000
ok "$NAME: not from another source" range 1000000 -o
ok "$NAME: another trace" come 3000000
ok "$NAME: ... is right" ranges 3000000
is "$(several)" 1 "$NAME: nothing else was asked for so"

### Trouble ###

# trouble NAME FAULT: that may have to do with several ranges, or not.
trouble() {
	NAME=$1
	fresh "$RIGHT" "$2"
	ok "$NAME: it says that it takes them" wait_for 10 known 1
	ok "$NAME: a trace" warm 1000000
	ok "$NAME: is asked for" wait_for 10 several_are 1
	ok "$NAME: the bytes are right" ranges 1000000
	is "$(several)" 1 "$NAME: asked for several once"
	is "$(status .failed)" '{}' "$NAME: nothing has failed"
}
trouble "reset" '{"kind": "several", "how": "reset", "range": ","}'
for s in 404 429 500 503; do
	trouble "status $s" "{\"kind\": \"status\", \"status\": $s, \"range\": \",\"}"
done
srv_reset
srv_fault '{"kind": "several"}'
n=$(answers 1)
ok "the question is asked again with the next trace" come 3000000
ok "... and answered" wait_for 10 known 1 $((n + 1))
ok "then it is as before" come 5000000
is "$(single 5)" 0 "in one request"

# The first two ranges come; demand for the third does not wait for ever.
NAME="stall"
fresh "$RIGHT" '{"kind": "several", "how": "stall", "range": ","}'
ok "$NAME: it says that it takes them" wait_for 10 known 1
ok "$NAME: a trace" warm 1000000
ok "$NAME: is asked for" wait_for 10 several_are 1
CLASS=0 ok "$NAME: demand goes its own way" range 1600000

NAME="a redirect that does not last"
fresh '{"kind": "redirect", "uses": 2, "port": "main"}' \
	'{"kind": "several", "port": "cdn"}'
ok "$NAME: it takes them" wait_for 10 known 1
for i in 1 2 3 4; do
	ok "$NAME: trace $i" come $((i * 1000000))
	ok "$NAME: the bytes are right" ranges $((i * 1000000))
done
is "$(status .failed)" '{}' "$NAME: nothing has failed"

### The question ###

# asked NAME KNOWN FAULT: with what is no yes.
asked() {
	NAME=$1
	fresh "$3"
	ok "$NAME: is an answer" wait_for 10 known "$2"
	ok "$NAME: a trace comes" come 1000000
	is "$(several)" 0 "$NAME: one range at a time"
}
asked "no" 0 '{"kind": "several", "how": "first"}'
is "$(probes)" 1 "... once and for all"
asked "the whole blob" 0 '{"kind": "ignore-range", "range": ","}'
is "$(probes)" 1 "... once and for all"
asked "not implemented" 0 '{"kind": "status", "status": 501, "range": ","}'
is "$(probes)" 1 "... once and for all"
asked "trouble" 0 '{"kind": "status", "status": 503, "range": ","}'
ok "... and asked again with the next trace" wait_for 10 probes_are 2
asked "nothing" 0 '{"kind": "drop", "range": ","}'
first=$BLOB
head -c 200 /dev/urandom >"$T/blob"
put "$T/blob"
BLOB=$H
NAME="a blob that does not have two bytes so far apart"
fresh '{"kind": "several"}'
ok "$NAME: is no answer" wait_for 10 known 0
BLOB=$first
ok "$NAME: another one" come 1000000
ok "$NAME: is an answer" wait_for 10 known 1
NAME="a host that is not reached"
N=$((N + 1))
stop_estargzd
HOST=127.0.0.1:1
start_estargzd "d$N" --config "$T/conf.toml" --log-level debug
background reader "$FETCHCTL" -s "$FETCHER" read "$(blob)" 0 10
ok "$NAME: it is found out" wait_for 20 status_is '.hosts[0].breaker' '"open"'
tried() { [ "$(log | grep -c 'msg=request ')" -gt "$1" ]; }
n=$(log | grep -c 'msg=request ')
ok "$NAME: a trace" warm 1000000
ok "$NAME: it is tried again" wait_for 10 tried "$n"
is "$(log | grep -c 'msg="several ranges"')" 0 "$NAME: but not with the question"
HOST=$SRV_ADDR
NAME="no answer"
fresh '{"kind": "delay", "ms": 60000, "range": "^'$PROBE'$"}'
ok "$NAME: a trace does not wait for it" come 1000000
ok "$NAME: it was asked" wait_for 10 probes_are 1
ok "$NAME: nor does the end" stop_estargzd

### A registry of other people's making ###

NAME="docker-registry"
start_registry
upload() { # DIGEST
	local to
	to=$(curl -sS -D- -o "$T/out" -X POST "http://$REG/v2/n$N/b/blobs/uploads/" |
		tr -d '\r' | awk 'tolower($1) == "location:" {print $2}')
	curl -sSf -X PUT -H 'Content-Type: application/octet-stream' \
		--data-binary @"$(file "$1")" "$to&digest=sha256:$1"
}
N=$((N + 1))
HOST=$REG
start_estargzd "d$N" --config "$T/conf.toml" --log-level debug
trace 500000 0
upload "$BLOB" && upload "$TRACE" || bail "cannot fill the registry"
trace 1000000
upload "$TRACE" || bail "cannot fill the registry"
warm 500000 0
ok "$NAME: takes them" wait_for 10 known 1
ok "$NAME: the first trace" wait_for 10 status_is .trace_bytes $LEN
ok "$NAME: another" come 1000000
ok "$NAME: the bytes are right" ranges 1000000
is "$(log | grep -c " range=1[0-9,-]* status=206 err=0")" 1 "$NAME: in one request"

stop_estargzd
not_ok "nothing was reported by a sanitizer" \
	grep -l -e 'ERROR: .*Sanitizer' -e 'runtime error' "$T"/*.log
done_testing

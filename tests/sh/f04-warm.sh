#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# WARM: the ends of blobs are fetched once, together, before they are asked
# for; and what goes wrong with that harms no READ.
# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/../..}/tests/lib.sh"
requires_cmd curl jq
FETCHCTL=${FETCHCTL:-$top_builddir/tests/tools/fetchctl}
[ -x "$ESTARGZD" ] && [ -x "$FETCHCTL" ] || plan_skip "not built"

ctl() { timeout 60 "$FETCHCTL" -s "$FETCHER" "$@" 2>"$T/ctl.err"; }
file() { echo "$T/oci/blobs/sha256/${D[$1]}"; }
blob() { echo "$HOST/a/b@sha256:${D[$1]}"; }
# part N OFF LEN: of blob N.
part() { tail -c "+$(($2 + 1))" "$(file "$1")" | head -c "$3"; }
# same N OFF LEN ARGS...: what fetchctl writes is that part.
same() {
	local n=$1 off=$2 len=$3
	shift 3
	ctl "$@" >"$T/got" || return 1
	part "$n" "$off" "$len" | cmp - "$T/got"
}
# suffix N LEN [OPTIONS]: the end of blob N, as a mount reads it.
suffix() {
	local n=$1 len=$2
	shift 2
	same "$n" $((Z[n] - len)) "$len" "$@" suffix "$(blob "$n")" "$len"
}
status() { ctl status | jq -c "$1"; }
status_is() { [ "$(status "$1")" = "$2" ]; }
gets() { srv_count "path=/blobs/&method=GET${1:+&$1}"; }
gets_are() { [ "$(gets)" = "$1" ]; }
# make N SIZE
make() {
	local h
	head -c "$2" /dev/urandom >"$T/blob"
	h=$(sha256sum <"$T/blob")
	D[$1]=${h%% *}
	Z[$1]=$2
	mv "$T/blob" "$(file "$1")"
}
# fresh: another estargzd, which knows nothing.
N=0
fresh() {
	N=$((N + 1))
	stop_estargzd
	srv_reset
	start_estargzd "d$N" --config "$T/conf.toml" --log-level debug
}

TAIL=524288
D=()
Z=()
mkdir -p "$T/oci/blobs/sha256" "$T/spool" "$HOME/.docker"
for i in 0 1 2 3 4 5 6 7 8; do
	make $i $((2000000 + i * 1000))
done
make 9 70001
# No transfer is given up for being slow here.
printf 'spool_dir = "%s"\nhosts_dir = "%s"\nstall_timeout_s = 300\nconnections_per_host = 8\n' \
	"$T/spool" "$T" >"$T/conf.toml"

### Ten blobs, with tokens ###

start_srv tok --oci "$T/oci" --auth bearer --user alice:s3cret
HOST=$SRV_ADDR
echo "{\"auths\": {\"$HOST\": {\"auth\": \"$(printf alice:s3cret |
	base64)\"}}}" >"$HOME/.docker/config.json"
fresh
names=()
for i in 0 1 2 3 4 5 6 7 8 9; do
	names+=("$(blob $i)")
done
ok "WARM is answered" ctl warm "${names[@]}"
like "$(cat "$T/ctl.err")" 'got=0 off=0 size=0 end' "with nothing"
# In whole pages.
ok "all of it comes" wait_for 10 status_is .warm_bytes $((9 * TAIL + 73728))
is "$(srv_count 'path=^/token')" 1 "with one token"
is "$(gets status=206)" 10 "and one request a blob"
n=$(srv_count)
for i in 0 1 2 3 4 5 6 7 8; do
	ok "the end of $i, as a mount reads it" suffix $i $TAIL
done
ok "a blob smaller than that" same 9 0 70001 suffix "$(blob 9)" $TAIL
ok "a smaller end" suffix 0 5000
ok "a range of an end" same 1 $((Z[1] - 400000)) 1000 \
	-z "${Z[1]}" read "$(blob 1)" $((Z[1] - 400000)) 1000
ok "a range over the end" same 1 $((Z[1] - 10)) 10 \
	read "$(blob 1)" $((Z[1] - 10)) 4096
is "$(srv_count)" "$n" "no request for all of that"
is "$(status .warm_reads)" 13 "READs answered from memory are counted"
is "$(status .classes.prefetch.bytes)" 0 "what is fetched for later is not"

### What is not held ###

ok "a longer end" suffix 2 1500000
is "$(gets 'range=^bytes=502000-1477711$')" 1 "only the rest is asked for"
ok "a range partly in it" same 3 1400000 200000 read "$(blob 3)" 1400000 200000
is "$(gets 'range=^bytes=1400000-1478711$')" 1 "only the rest, again"
ok "a range before it" same 4 5 1000 read "$(blob 4)" 5 1000
n=$(gets)
ok "another source" suffix 4 $TAIL -o
is "$(gets)" $((n + 1)) "is not our memory"
not_ok "a wrong size" ctl -z 77 suffix "$(blob 5)" 100
like "$(cat "$T/ctl.err")" ESTALE "is ESTALE"
srv_fault '{"kind": "status", "status": 404, "path": "blobs"}'
ok "what is held needs no server" suffix 8 $TAIL
srv_clear
n=$(gets)
ok "WARM of what is held" ctl -k 300 warm "${names[@]:5}"
ok "only its time is new" wait_for 10 status_is .warm_bytes $((4 * TAIL))
is "$(gets)" "$n" "nothing was fetched again"
ok "what was forgotten" suffix 8 $TAIL
is "$(gets)" $((n + 1)) "is asked for again"

### While it is on its way ###

start_srv open --oci "$T/oci"
HOST=$SRV_ADDR
fresh
# Always some of it: what does not get on for two seconds is not waited for.
srv_fault '{"kind": "slow", "bps": 1000, "path": "blobs", "count": 2}'
ok "WARM of what is slow" ctl -t 100000 warm "$(blob 0)" "$(blob 1)"
ok "is asked for" wait_for 10 gets_are 2
"$FETCHCTL" -s "$FETCHER" suffix "$(blob 0)" 90000 >"$T/r0" 2>"$T/r0.log" &
PIDS+=($!)
R0=$!
"$FETCHCTL" -s "$FETCHER" -z "${Z[1]}" read "$(blob 1)" \
	$((Z[1] - 200000)) 150000 >"$T/r1" 2>"$T/r1.log" &
PIDS+=($!)
R1=$!
ok "READs of that wait" wait_for 10 status_is .requests_open 2
is "$(gets)" 2 "and ask for nothing"
srv_clear
ok "they end with it" wait $R0
ok "those partly in it too" wait $R1
ok "with the right bytes" cmp "$T/r0" <(part 0 $((Z[0] - 90000)) 90000)
ok "with the right bytes, too" \
	cmp "$T/r1" <(part 1 $((Z[1] - 200000)) 150000)
is "$(gets)" 3 "nothing was asked for twice"
is "$(gets "range=^bytes=$((Z[1] - 200000))-$((Z[1] - 100001))$")" 1 \
	"but the rest"

# Who waits for it may go, or be too late.
fresh
srv_fault '{"kind": "stall", "after": 0, "path": "blobs", "count": 1}'
ctl warm "$(blob 0)"
background waiter "$FETCHCTL" -s "$FETCHER" suffix "$(blob 0)" 1000
wait_for 10 status_is .requests_open 1
stop_pid "$BG_PID"
ok "who waits may go" wait_for 10 status_is .requests_open 0
not_ok "who waits has a deadline" ctl -d 100 suffix "$(blob 0)" 1000
like "$(cat "$T/ctl.err")" ETIMEDOUT "and is told"
ok "what does not get on is not waited for" suffix 0 $TAIL -d 20000
is "$(gets)" 2 "but asked for anew"

# It is prefetch: it waits for other prefetch, but not when it is waited for.
# readers CLASS: one of each blob's first bytes, which never come.
readers() {
	local i
	srv_fault '{"kind": "stall", "after": 0, "range": "^bytes=0-"}'
	for i in 1 2 3 4 5 6 7 8; do
		background "reader$i" "$FETCHCTL" -s "$FETCHER" \
			read "$(blob $i)" 0 1000 "$1"
	done
	wait_for 10 status_is .requests_open 8
}
fresh
readers 1
ok "six of eight connections are for prefetch" wait_for 10 gets_are 6
ctl -t 100000 warm "$(blob 0)"
ok "a READ raises what it waits for" suffix 0 90000
is "$(gets 'range=^bytes=-100000$')" 1 "in one request"
is "$(gets)" 7 "and no other"
fresh
readers 2
wait_for 10 gets_are 4
ctl -t 100000 warm "$(blob 0)"
ok "background does not starve it" wait_for 10 status_is .warm_bytes 100000

### Failures ###

fresh
srv_fault '{"kind": "status", "status": 404, "path": "blobs", "count": 1}'
ctl warm "$(blob 0)"
ok "WARM and a 404" wait_for 10 status_is .warm_bytes 0
ok "a READ after that" suffix 0 $TAIL
n=$(gets)
srv_fault '{"kind": "status", "status": 503, "path": "blobs", "count": 1}'
ctl warm "$(blob 1)"
ok "WARM and a 503" wait_for 10 status_is .warm_bytes 0
is "$(gets)" $((n + 1)) "is tried once"
ok "a READ after that, too" suffix 1 $TAIL
is "$(status .failed)" '{}' "nothing has failed for a client"
srv_fault '{"kind": "reset", "after": 5000, "path": "blobs", "count": 3}'
ctl warm "$(blob 2)"
ok "a READ beside a WARM that fails" suffix 2 $TAIL
srv_fault '{"kind": "ignore-range", "path": "blobs"}'
ctl warm "$(blob 3)"
ok "a server that ignores ranges" suffix 3 $TAIL
srv_clear
# Nobody is at port 1.
held=$(status .warm_bytes)
ctl warm "127.0.0.1:1/a/b@sha256:${D[5]}" "no name" "x@sha256:1" \
	"$HOST/a/b:tag" "$(blob 4)"
ok "a dead host and bad names beside a good one" \
	wait_for 10 status_is .warm_bytes $((held + TAIL))
not_ok "a READ of the dead host" \
	ctl -d 2000 read "127.0.0.1:1/a/b@sha256:${D[5]}" 0 10
like "$(cat "$T/ctl.err")" "ETIMEDOUT.*connect" "fails as always"
n=$(gets)
ok "a READ of the good one" suffix 4 $TAIL
is "$(gets)" "$n" "is from memory"

### Ends whose lengths are known ###

fresh
ctl warm "$(blob 0) 5000" "$(blob 1) nonsense" "$(blob 2) 8388609"
ok "a length of its own" wait_for 10 status_is .warm_bytes $((2 * TAIL + 5000))
is "$(gets 'range=^bytes=-5000$')" 1 "is what is asked for"
n=$(gets)
ok "a READ of that end" suffix 0 5000
ok "and of one whose length is nonsense" suffix 1 $TAIL
is "$(gets)" "$n" "are from memory"
ok "a longer one" suffix 0 6000
is "$(gets)" $((n + 1)) "asks for the rest"

### Bounds ###

fresh
srv_fault '{"kind": "stall", "after": 0, "path": "blobs"}'
ctl -t 8388608 warm "${names[@]/*@/$HOST/a/b@}"
is "$(status .warm_bytes)" 67108864 "as many as fit"
ctl -t 8388608 warm "$HOST/c/d@sha256:${D[9]}"
is "$(status .warm_bytes)" 67108864 "another one takes the place of the oldest"
srv_clear
ok "and is there" same 9 0 70001 suffix "$HOST/c/d@sha256:${D[9]}" 100000
stop_estargzd

not_ok "nothing was reported by a sanitizer" \
	grep -l -e 'ERROR: .*Sanitizer' -e 'runtime error' "$T"/*.log
done_testing

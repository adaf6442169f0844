#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Content that is gone under one name is asked for by another, if a client has
# it open by that.
# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/../..}/tests/lib.sh"
requires_cmd curl jq
FETCHCTL=${FETCHCTL:-$top_builddir/tests/tools/fetchctl}
[ -x "$ESTARGZD" ] && [ -x "$FETCHCTL" ] || plan_skip "not built"

ctl() { timeout 60 "$FETCHCTL" -s "$FETCHER" "$@" 2>"$T/ctl.err"; }
same() {
	local off=$1 len=$2
	shift 2
	ctl "$@" >"$T/got" || return 1
	tail -c "+$((off + 1))" "$T/blob" | head -c "$len" | cmp - "$T/got"
}
# hold NAME: a client that has it open; release: it goes.
hold() {
	mkfifo "$T/fifo.$1"
	"$FETCHCTL" -s "$FETCHER" -l read "$2" 0 10 <"$T/fifo.$1" \
		>/dev/null 2>"$T/hold.$1" &
	HELD=$!
	PIDS+=($HELD)
	exec {HOLD}>"$T/fifo.$1"
	wait_for 10 grep -q opened "$T/hold.$1"
}
release() {
	kill "$HELD"
	wait "$HELD" 2>/dev/null
	exec {HOLD}>&-
	wait_for 10 open_blobs "$1"
}
open_blobs() { [ "$(ctl status | jq .blobs_open)" = "$1" ]; }

SIZE=3000000
mkdir -p "$T/oci/blobs/sha256" "$T/empty"
head -c $SIZE /dev/urandom >"$T/blob"
H=$(sha256sum <"$T/blob")
H=${H%% *}
ln "$T/blob" "$T/oci/blobs/sha256/$H"
start_srv gone --oci "$T/empty"
GONE_URL=$SRV_URL
GONE=$SRV_ADDR/gone/img@sha256:$H
start_srv good --oci "$T/oci"
GOOD=$SRV_ADDR/good/img@sha256:$H
printf 'hosts_dir = "%s"\n' "$T/none" >"$T/conf.toml"
start_estargzd d1 --config "$T/conf.toml" --log-level debug
asked_gone() { srv_ctl "$GONE_URL/_ctl/count?path=blobs"; }

not_ok "nobody has another name" ctl read "$GONE" 0 100
like "$(cat "$T/ctl.err")" "ENOENT.*gone/img: status 404" "ENOENT"
ok "one that was open is no name" same 5 100 read "$GOOD" 5 100
not_ok "any more" ctl read "$GONE" 0 100

hold a "$GOOD"
n=$(asked_gone)
ok "one that is" same 5 100000 read "$GONE" 5 100000
is "$(asked_gone)" $((n + 1)) "is asked after the first"
like "$(cat "$T/d1.log")" "asked by another name.*gone/img.*good/img" \
	"which is logged"
ok "all of it" same 0 $SIZE -n 4 read "$GONE" 0 $SIZE
ok "a suffix" same $((SIZE - 1000)) 1000 suffix "$GONE" 1000
not_ok "another size than expected" ctl -z 77 read "$GONE" 0 100
like "$(cat "$T/ctl.err")" ESTALE "is ESTALE"
release 0
not_ok "it is over with its client" ctl read "$GONE" 0 100

# While a READ is under way, the other name may lose its client.
hold b "$GOOD"
srv_fault '{"kind": "stall", "after": 1000, "path": "blobs", "count": 1}'
"$FETCHCTL" -s "$FETCHER" read "$GONE" 0 200000 >"$T/slow" 2>"$T/slow.err" &
PIDS+=($!)
SLOW=$!
wait_for 10 eval '[ "$(srv_count "path=blobs&range=0-199999")" = 1 ]'
release 2
srv_clear
ok "a READ that was under way ends" wait $SLOW
ok "with the right bytes" cmp "$T/slow" <(head -c 200000 "$T/blob")
ok "and nothing stays open" wait_for 10 open_blobs 0

hold c "$GOOD"
srv_ctl -X POST --data-binary '{"kind": "status", "status": 403}' \
	"$GONE_URL/_ctl/fault" >/dev/null
ok "403" same 5 100 read "$GONE" 5 100
ok "a host that is down" same 5 100 -d 30000 \
	read "127.0.0.1:1/a/b@sha256:$H" 5 100
srv_fault '{"kind": "status", "status": 404}'
not_ok "both are gone" ctl read "$GONE" 0 100
like "$(cat "$T/ctl.err")" "ENOENT.*good/img: status 404" "ENOENT of the last"
srv_clear
release 0

# WARM is a name, too, while it lasts. (What was refused is not asked soon.)
ctl warm "${GOOD/good/warm}"
ok "a name that is warm" same 5 100 read "$GONE" 5 100
not_ok "another digest is other content" \
	ctl read "${GONE%@*}@sha256:$(tr 0-9a-f 1-9a-f0 <<<"$H")" 0 100
stop_estargzd
not_ok "nothing was reported by a sanitizer" \
	grep -l -e 'ERROR: .*Sanitizer' -e 'runtime error' "$T"/*.log
done_testing

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# estargzd against a server that misbehaves (tests/srv): right bytes in the
# end, or the right error; never a wrong byte, never a hang.
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
	tail -c "+$((off + 1))" "$T/files/$F" | head -c "$len" | cmp - "$T/got"
}
# fresh FAULT...: another name for the content, so that nothing is known of it
N=0
fresh() {
	N=$((N + 1))
	F=b$N
	ln -f "$T/files/blob" "$T/files/$F"
	U=$SRV_URL/f/$F
	srv_reset
	[ $# = 0 ] || srv_fault "$@"
}

SIZE=3000001
mkdir -p "$T/files" "$T/spool" "$T/nospool"
head -c $SIZE /dev/urandom >"$T/files/blob"
start_srv srv --files "$T/files"
printf 'spool_dir = "%s"\nstall_timeout_s = 1\n' "$T/spool" >"$T/conf.toml"
start_estargzd d1 --config "$T/conf.toml" --log-level debug

fresh
ok "nothing wrong" same 10 100000 read "$U" 10 100000
fresh '{"kind": "reset", "after": 1000, "count": 2}'
ok "reset in the body" same 10 100000 read "$U" 10 100000
fresh '{"kind": "short", "after": 1000, "count": 3}'
ok "short bodies: the rest is asked for" same 10 100000 read "$U" 10 100000
like "$(srv_ctl "$SRV_URL/_ctl/log")" 'bytes=1010-100009' "only the rest"
fresh '{"kind": "drop", "count": 3}'
ok "closed without an answer" same 0 5000 read "$U" 0 5000
fresh '{"kind": "garbage", "count": 2}'
ok "not HTTP" same 0 5000 read "$U" 0 5000
fresh '{"kind": "status", "status": 503, "count": 2}'
ok "503 twice" same 0 5000 read "$U" 0 5000
fresh '{"kind": "status", "status": 429, "retry_after": 1, "count": 1}'
t=$(now_ms)
ok "429 with Retry-After" same 0 5000 read "$U" 0 5000
[ $(($(now_ms) - t)) -ge 1000 ] && pass "is waited for" || fail "is waited for"
fresh '{"kind": "stall", "after": 2000, "count": 1}'
ok "a stall" same 0 50000 read "$U" 0 50000
fresh '{"kind": "status", "status": 503}'
not_ok "503 for ever" ctl -d 3000 read "$U" 0 10
like "$(cat "$T/ctl.err")" "ETIMEDOUT: .*status 503" "ends at the deadline"
fresh '{"kind": "status", "status": 404}'
not_ok "404" ctl read "$U" 0 10
like "$(cat "$T/ctl.err")" "ENOENT: .*status 404" "is ENOENT"
fresh '{"kind": "status", "status": 403}'
not_ok "403" ctl read "$U" 0 10
like "$(cat "$T/ctl.err")" "EACCES: .*status 403" "is EACCES"

stop_estargzd

### Ranges ###

# Requests are counted: none is given up for being slow.
printf 'spool_dir = "%s"\n' "$T/spool" >"$T/conf.toml"
start_estargzd d1b --config "$T/conf.toml" --log-level debug

for v in 'bytes 11-100009/{n}' 'bytes 10-100008/{n}' 'bytes 0-99999/{n}' \
	'items {a}-{b}/{n}' 'bytes {b}-{a}/{n}' 'bytes {a}-{b}/5' ''; do
	fresh "{\"kind\": \"content-range\", \"value\": \"$v\", \"count\": 1}"
	ok "Content-Range \"$v\" is not believed" \
		same 10 100000 read "$U" 10 100000
done
fresh '{"kind": "content-range", "value": "bytes {a}-{b}/*"}'
ok "a total that is not told" same 10 100000 read "$U" 10 100000
fresh '{"kind": "less", "n": 30000}'
ok "less than asked for" same 10 100000 read "$U" 10 100000
fresh '{"kind": "multipart", "count": 1}'
ok "multipart" same 10 100000 read "$U" 10 100000
fresh '{"kind": "length", "by": 7, "count": 1}'
ok "a Content-Length too long" same 10 100000 read "$U" 10 100000
fresh '{"kind": "length", "by": -7, "count": 1}'
ok "a Content-Length too short" same 10 100000 read "$U" 10 100000
fresh '{"kind": "chunked"}'
ok "chunked coding" same 10 100000 read "$U" 10 100000
fresh '{"kind": "http10"}'
ok "HTTP/1.0" same 10 100000 read "$U" 10 100000
fresh '{"kind": "close"}'
ok "connections that are not kept" same 10 100000 -n 20 read "$U" 10 100000
fresh '{"kind": "headers", "n": 20000}'
ok "many headers" same 10 1000 read "$U" 10 1000
for s in 416 400 501 200; do
	fresh "{\"kind\": \"no-suffix\", \"answer\": $s}"
	ok "no suffix ranges: $s" same $((SIZE - 70000)) 70000 \
		suffix "$U" 70000
	at_most "$(srv_count 'path=/f/')" 3 "requests for that"
done

### A server that ignores Range ###

fresh '{"kind": "ignore-range"}'
ok "the whole blob instead of a range" same 70000 1000 -n 4 \
	read "$U" 70000 1000
ok "a suffix of it" same $((SIZE - 70)) 70 suffix "$U" 70
ok "all of it" same 0 $SIZE read "$U" 0 $SIZE
is "$(srv_count "path=/f/&method=GET")" 1 "one request for all of that"
fresh '{"kind": "ignore-range"}'
ok "a suffix first" same $((SIZE - 70)) 70 suffix "$U" 70
ok "then the start" same 0 70 read "$U" 0 70
at_most "$(srv_count "path=/f/&method=GET")" 2 "requests for that"
is "$(find "$T/spool" -type f | wc -l)" 0 "nothing of it has a name"
fresh '{"kind": "ignore-range"}' '{"kind": "reset", "after": 100000, "count": 1}'
ok "reset while spooling" same 200000 1000 read "$U" 200000 1000

### Redirects ###

fresh '{"kind": "redirect", "status": 307, "port": "main"}'
ok "a redirect" same 10 1000 read "$U" 10 1000
ctl -l read "$U" 20 1000 </dev/null >/dev/null
is "$(srv_count "path=/f/$F&port=main")" 1 "is remembered"
fresh '{"kind": "redirect", "status": 307, "uses": 1, "port": "main"}'
ok "one that expires" same 10 1000 read "$U" 10 1000
ok "is asked for again" same 50 1000 read "$U" 50 1000
fresh '{"kind": "redirect", "relative": true, "path": "^/f/"}'
ok "a relative one" same 10 1000 read "$U" 10 1000
fresh '{"kind": "redirect", "loop": true}'
not_ok "one that leads round and round" ctl -d 2000 read "$U" 10 1000
like "$(cat "$T/ctl.err")" "redirect|status 30" "says so"

### Life ###

fresh '{"kind": "stall", "after": 0}'
background waiter "$FETCHCTL" -s "$FETCHER" read "$U" 0 10
open_requests() {
	[ "$("$FETCHCTL" -s "$FETCHER" status 2>/dev/null |
		jq .requests_open)" = "$1" ]
}
ok "a READ is open" wait_for 10 open_requests 1
kill "$BG_PID"
ok "it is forgotten with its client" wait_for 10 open_requests 0
srv_clear
stop_estargzd

# Where there is no room for a spool, a body serves what it passes.
printf 'spool_bytes_max = 0\n' >"$T/conf2.toml"
start_estargzd d2 --config "$T/conf2.toml" --log-level debug
fresh '{"kind": "ignore-range"}'
ok "no spool: a range" same 70000 1000 -n 4 read "$U" 70000 1000
ok "no spool: all" same 0 $SIZE read "$U" 0 $SIZE
stop_estargzd

### Mirrors ###

mkdir -p "$T/oci/blobs/sha256"
DIGEST=sha256:$(sha256sum <"$T/files/blob" | cut -d' ' -f1)
ln "$T/files/blob" "$T/oci/blobs/sha256/${DIGEST#*:}"
F=blob
start_srv dead --oci "$T/oci"
DEAD=$SRV_ADDR
kill "$SRV_PID"
wait "$SRV_PID" 2>/dev/null
start_srv bad --oci "$T/oci"
BAD=$SRV_ADDR
srv_fault '{"kind": "status", "status": 404}'
start_srv good --oci "$T/oci"
mkdir -p "$T/certs.d/reg.test"
cat >"$T/certs.d/reg.test/hosts.toml" <<END
server = "http://$DEAD"
[host."http://$DEAD"]
[host."http://$BAD"]
  capabilities = ["pull"]
[host."$SRV_URL/x/y"]
  capabilities = ["pull", "resolve"]
  override_path = true
[host."$SRV_URL"]
  capabilities = ["pull", "resolve"]
  [host."$SRV_URL".header]
    X-Lab = "yes"
END
printf 'hosts_dir = "%s"\n' "$T/certs.d" >"$T/conf3.toml"
start_estargzd d3 --config "$T/conf3.toml" --log-level debug
ok "the mirror that has it" same 7 70000 read "reg.test/a/b@$DIGEST" 7 70000
is "$(srv_count 'path=ns=reg.test')" 2 "mirrors are told the registry"
is "$(srv_count 'path=^/x/y/a/b/blobs')" 1 "override_path"
ok "again" same 8 70000 read "reg.test/a/b@$DIGEST" 8 70000
rm -r "$T/certs.d/reg.test"
not_ok "no mirror" ctl -d 2000 read "$DEAD/a/b@$DIGEST" 0 10
like "$(cat "$T/ctl.err")" "ETIMEDOUT.*$DEAD/a/b.*connect" "says who is dead"
stop_estargzd
### Tokens ###

start_srv tok --oci "$T/oci" --auth bearer --user alice:s3cret \
	--identity idt --token-uses 2
mkdir -p "$HOME/.docker"
B=$SRV_ADDR/a/b@$DIGEST
start_estargzd d4 --log-level debug
not_ok "no token for nobody" ctl read "$B" 0 10
like "$(cat "$T/ctl.err")" "EACCES.*token endpoint answers status 401" \
	"is EACCES"
echo "{\"auths\": {\"$SRV_ADDR\": {\"identitytoken\": \"idt\"}}}" \
	>"$HOME/.docker/config.json"
srv_reset
for i in 1 2 3 4 5; do
	ok "identity token, read $i" same $i 70000 read "$B" $i 70000
done
is "$(srv_count 'path=^/token&method=POST')" 3 "tokens are used up, then renewed"
srv_fault '{"kind": "status", "status": 503, "path": "^/token", "count": 2}'
ok "two READs while the token endpoint is out of order" \
	same 6 70000 -n 2 read "$B" 6 70000
srv_fault '{"kind": "redirect", "status": 307, "path": "blobs"}'
ok "a redirect gets no Authorization" same 7 70000 read "$B" 7 70000
not_ok "no token in the log" grep -q idt "$T/d4.log"
stop_estargzd

not_ok "nothing was reported by a sanitizer" \
	grep -l -e 'ERROR: .*Sanitizer' -e 'runtime error' "$T"/*.log
done_testing

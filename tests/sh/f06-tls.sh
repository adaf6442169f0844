#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# HTTP/2, client certificates, and what a directory of certs.d may have, with
# nginx as the registry.
# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/../..}/tests/lib.sh"
requires_cmd nginx openssl jq "$PYTHON"
FETCHCTL=${FETCHCTL:-$top_builddir/tests/tools/fetchctl}
[ -x "$ESTARGZD" ] && [ -x "$FETCHCTL" ] || plan_skip "not built"

ctl() { timeout 60 "$FETCHCTL" -s "$FETCHER" "$@" 2>"$T/ctl.err"; }
same() {
	local n=$1 off=$2 len=$3
	shift 3
	ctl "$@" >"$T/got" || return 1
	tail -c "+$((off + 1))" "$T/blobs/${D[n]}" | head -c "$len" |
		cmp - "$T/got"
}
blob() { echo "$HOST/a/b@sha256:${D[$1]}"; }
# What nginx saw: lines of PROTOCOL CONNECTION STATUS RANGE CERTIFICATE.
seen() { grep -cE -- "$1" "$T/access"; }
connections() { cut -d' ' -f2 "$T/access" | sort -u | wc -l; }

D=()
mkdir -p "$T/blobs" "$T/certs.d"
for i in 0 1 2 3 4 5 6 7 8 9; do
	head -c $((1200000 + i)) /dev/urandom >"$T/blob"
	h=$(sha256sum <"$T/blob")
	D[i]=${h%% *}
	mv "$T/blob" "$T/blobs/${D[i]}"
done
make_tls
# cert NAME: of a client, by the same CA.
cert() {
	openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
		-keyout "$T/tls/$1.key" -out "$T/tls/$1.csr" \
		-subj "/CN=$1" 2>>"$T/tls/log" &&
	openssl x509 -req -in "$T/tls/$1.csr" -CA "$T/tls/ca.crt" \
		-CAkey "$T/tls/ca.key" -CAcreateserial -days 7 \
		-out "$T/tls/$1.crt" 2>>"$T/tls/log"
}
cert node || bail "openssl: $(tail -n 2 "$T/tls/log")"

# start_nginx LISTEN-OPTIONS [SERVER-DIRECTIVES]: sets HOST. It gets its
# socket from here, so that the kernel can choose the port.
start_nginx() {
	cat >"$T/nginx.in" <<-DONE
	daemon off; worker_processes 1; user root;
	pid $T/nginx.pid; error_log $T/nginx.err;
	events { worker_connections 512; }
	http {
	  log_format seen '\$server_protocol \$connection \$status '
	    '\$http_range \$ssl_client_s_dn';
	  access_log $T/access seen;
	  client_body_temp_path $T/n1; proxy_temp_path $T/n2;
	  fastcgi_temp_path $T/n3; uwsgi_temp_path $T/n4; scgi_temp_path $T/n5;
	  ssl_certificate $T/tls/srv.crt; ssl_certificate_key $T/tls/srv.key;
	  ssl_client_certificate $T/tls/ca.crt;
	  server {
	    listen 127.0.0.1:@PORT@ $1; ${2:-}
	    location ~ ^/v2/a/b/blobs/sha256:(?<h>[0-9a-f]+)\$ {
	      alias $T/blobs/\$h;
	    }
	    location ~ ^/v2/slow/b/blobs/sha256:(?<h>[0-9a-f]+)\$ {
	      alias $T/blobs/\$h; limit_rate 1k;
	    }
	  }
	}
	DONE
	rm -f "$T/nginx.port"
	: >"$T/access"
	background nginx "$PYTHON" "$TOOLS/nginx.py" "$T/nginx.in" "$T/nginx.port"
	wait_for 20 test -s "$T/nginx.port" && wait_for 20 grep -q . "$T/nginx.pid"
	HOST=localhost:$(cat "$T/nginx.port")
	C=$T/certs.d/$HOST
	mkdir -p "$C"
}
# fresh: another estargzd, and nothing seen yet.
N=0
fresh() {
	N=$((N + 1))
	stop_estargzd
	: >"$T/access"
	start_estargzd "d$N" --config "$T/conf.toml" --log-level debug
}
printf 'hosts_dir = "%s"\n' "$T/certs.d" >"$T/conf.toml"

### HTTP/2 ###

start_nginx "ssl http2"
printf 'server = "https://%s"\nca = "%s"\n' "$HOST" "$T/tls/ca.crt" \
	>"$C/hosts.toml"
fresh
ok "a range" same 0 5 1000 read "$(blob 0)" 5 1000
ok "a suffix" same 0 1100000 100000 suffix "$(blob 0)" 100000
ok "32 at once" same 1 100 50000 -n 32 read "$(blob 1)" 100 50000
ok "the whole blob, split" same 2 0 1200002 read "$(blob 2)" 0 9000000
is "$(seen '^HTTP/2.0 ')" "$(wc -l <"$T/access")" "all of it in HTTP/2"
is "$(connections)" 1 "over one connection"
not_ok "a blob that is not there" ctl read "$HOST/a/b@sha256:${D[0]//[0-9]/0}" \
	0 10
like "$(cat "$T/ctl.err")" "ENOENT.*status 404" "is ENOENT"
names=()
for i in 0 1 2 3 4 5 6 7 8 9; do
	names+=("$(blob $i)")
done
ctl -t 100000 warm "${names[@]}"
warm() { [ "$(ctl status | jq .warm_bytes)" = 1000000 ]; }
ok "WARM of ten" wait_for 10 warm
n=$(wc -l <"$T/access")
for i in 0 9; do
	ok "its blob $i" same $i $((1100000 + i)) 100000 suffix "$(blob $i)" 100000
done
is "$(wc -l <"$T/access")" "$n" "is from memory"
is "$(connections)" 1 "still one connection"

# One stream is given up, in its middle; the connection lives on.
background slow "$FETCHCTL" -s "$FETCHER" read \
	"$HOST/slow/b@sha256:${D[3]}" 0 1000000
wait_for 10 eval 'ctl status | jq -e ".requests_open == 2 or
	.classes.demand.bytes > 0"'
ok "a READ beside a slow one" same 4 0 300000 read "$(blob 4)" 0 300000
stop_pid "$BG_PID"
ok "and after that was given up" same 5 0 300000 read "$(blob 5)" 0 300000
is "$(connections)" 1 "on the connection of before"
not_ok "a CA that is not ours" eval 'sed -i /^ca/d "$C/hosts.toml" && fresh &&
	ctl read "$(blob 0)" 0 10'
like "$(cat "$T/ctl.err")" "EACCES.*certificate" "is EACCES"

### Client certificates ###

start_nginx ssl "ssl_verify_client on;"
server=$(printf 'server = "https://%s"\nca = "%s"' "$HOST" "$T/tls/ca.crt")
echo "$server" >"$C/hosts.toml"
fresh
not_ok "no certificate" ctl read "$(blob 0)" 0 10
like "$(cat "$T/ctl.err")" "EIO.*status 400" "is refused"
cp "$T/tls/node.crt" "$C/c.crt"
cp "$T/tls/node.key" "$C/c.key"
cat "$C/c.crt" "$C/c.key" >"$T/tls/both.pem"
printf '%s\nclient = [["c.crt", "c.key"]]\n' "$server" >"$C/hosts.toml"
fresh
ok "certificate and key" same 0 5 1000 read "$(blob 0)" 5 1000
is "$(seen ' 206 bytes=5-1004 CN=node$')" 1 "are shown"
printf '%s\nclient = "%s"\n' "$server" "$T/tls/both.pem" >"$C/hosts.toml"
fresh
ok "both in one file" same 0 5 1000 read "$(blob 0)" 5 1000
printf '%s\nclient = [["c.crt", "none.key"]]\n' "$server" >"$C/hosts.toml"
fresh
not_ok "a key that is not there" ctl -d 3000 read "$(blob 0)" 0 10
like "$(cat "$T/ctl.err")" "EACCES" "is EACCES"

# As docker has them: no hosts.toml.
rm "$C/hosts.toml" "$C/c.crt"
cp "$T/tls/ca.crt" "$C/ca.crt"
cp "$T/tls/node.crt" "$C/c.cert"
fresh
ok "certificates without hosts.toml" same 0 5 1000 read "$(blob 0)" 5 1000
is "$(seen ' CN=node$')" 1 "are shown, too"
rm "$C/ca.crt"
fresh
ok "this machine needs no authority" same 0 5 1000 read "$(blob 0)" 5 1000
rm "$C"/c.*
fresh
not_ok "nothing at all means plain HTTP" ctl -d 3000 read "$(blob 0)" 0 10
is "$(seen '^HTTP/1.1 [0-9]+ 400 ')" 1 "on this machine"
stop_estargzd
not_ok "nothing was reported by a sanitizer" \
	grep -l -e 'ERROR: .*Sanitizer' -e 'runtime error' "$T"/*.log
done_testing

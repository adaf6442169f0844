#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# estargzd by itself, driven by tests/tools/fetchctl: against the real
# docker-registry (open, Basic, token, TLS), files, its command line, its life.
# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/../..}/tests/lib.sh"
requires_cmd docker-registry curl jq htpasswd openssl
FETCHCTL=${FETCHCTL:-$top_builddir/tests/tools/fetchctl}
[ -x "$ESTARGZD" ] && [ -x "$FETCHCTL" ] || plan_skip "not built"

ctl() { timeout 60 "$FETCHCTL" -s "$FETCHER" "$@" 2>"$T/ctl.err"; }
# same OFF LEN FILE ARGS...: what fetchctl writes is that part of BLOB.
same() {
	local off=$1 len=$2
	shift 2
	ctl "$@" >"$T/got" || return 1
	tail -c "+$((off + 1))" "$T/blob" | head -c "$len" | cmp - "$T/got"
}
# post FILE TYPE: puts blob and manifest of repository t/img.
put_image() {
	local url=$1 loc
	shift
	loc=$(curl -sS "$@" -D- -o/dev/null -X POST \
		"$url/v2/t/img/blobs/uploads/" | tr -d '\r' |
		awk 'tolower($1) == "location:" {print $2}')
	curl -sSf "$@" -X PUT --data-binary @"$T/blob" \
		-H 'Content-Type: application/octet-stream' \
		"$loc&digest=$DIGEST" >/dev/null &&
		curl -sSf "$@" -X PUT --data-binary @"$T/manifest" \
			-H 'Content-Type: application/vnd.oci.image.manifest.v1+json' \
			"$url/v2/t/img/manifests/v1" >/dev/null
}

SIZE=9000001
head -c $SIZE /dev/urandom >"$T/blob"
DIGEST=sha256:$(sha256sum <"$T/blob" | cut -d' ' -f1)
TOC=sha256:$(printf toc | sha256sum | cut -d' ' -f1)
cat >"$T/manifest" <<END
{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",
"config":{"mediaType":"application/vnd.oci.image.config.v1+json",
"digest":"$DIGEST","size":$SIZE},"layers":[{
"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"$DIGEST",
"size":$SIZE,"annotations":{
"containerd.io/snapshot/stargz/toc.digest":"$TOC"}}]}
END
MDIGEST=sha256:$(sha256sum <"$T/manifest" | cut -d' ' -f1)
mkdir -p "$T/certs.d"
printf 'hosts_dir = "%s"\nspool_dir = "%s"\n' "$T/certs.d" "$T" >"$T/conf.toml"

### An open registry ###

start_registry
put_image "http://$REG" || bail "cannot fill the registry"
start_estargzd d1 --config "$T/conf.toml" --log-level debug
B=$REG/t/img@$DIGEST

ok "HELLO is answered" ctl hello
ok "a tag is resolved" ctl resolve "$REG/t/img:v1"
ctl resolve "$REG/t/img:v1" >"$T/doc"
is "$(jq -r .manifest_digest "$T/doc")" "$MDIGEST" "its manifest digest"
is "$(jq -r '.layers[0].toc_digest' "$T/doc")" "$TOC" "its TOC digest"
is "$(jq -r '.layers[0].size' "$T/doc")" "$SIZE" "its layer's size"
ok "a digest is resolved" ctl resolve "$REG/t/img@$MDIGEST"
not_ok "a tag that is not there" ctl resolve "$REG/t/img:none"
like "$(cat "$T/ctl.err")" "ENOENT: $REG/t/img: status 404" "is ENOENT"
ok "a range" same 5 1000 read "$B" 5 1000
ok "a range over the end" same 9000000 1 read "$B" 9000000 4096
ok "a range behind the end" same 0 0 read "$B" 20000000 4096
ok "the whole blob, split" same 0 $SIZE read "$B" 0 $SIZE
ok "prefetch" same 0 $SIZE read "$B" 0 $SIZE 1
ok "background" same 1 4000000 read "$B" 1 4000000 2
ok "a suffix" same $((SIZE - 70000)) 70000 suffix "$B" 70000
ok "a suffix longer than the blob" same 0 $SIZE suffix "$B" 20000000
ok "32 times the same" same 100 5000 -n 32 read "$B" 100 5000
not_ok "a wrong size" ctl -z 77 read "$B" 0 10
like "$(cat "$T/ctl.err")" "ESTALE" "is ESTALE"
not_ok "a blob that is not there" \
	ctl read "$REG/t/img@${MDIGEST/sha256:??/sha256:00}" 0 10
like "$(cat "$T/ctl.err")" "ENOENT: $REG/t/img: status 404" "is ENOENT too"
not_ok "a bad reference" ctl read "t/img@$DIGEST" 0 10
ok "a URL" same 3 300 read "http://$REG/v2/t/img/blobs/$DIGEST" 3 300

### Files ###

ok "a range of a file" same 7 8000000 read "$T/blob" 7 8000000
ok "a suffix of a file" same $((SIZE - 9)) 9 suffix "$T/blob" 9
not_ok "a directory is no blob" ctl read "$T" 0 9

### Status ###

ok "STATUS is answered" ctl status
ctl status >"$T/status"
is "$(jq -r .clients "$T/status")" 1 "one client"
is "$(jq -r .blobs_open "$T/status")" 0 "no blob is open"
is "$(jq -r '.failed.ESTALE' "$T/status")" 1 "failures by code"
is "$(jq -r '.hosts[0].url' "$T/status")" "http://$REG" "the host"

### Who does not read, or asks for too much ###

"$PYTHON" - "$FETCHER" <<'END' >"$T/greedy" 2>"$T/greedy.err"
import fcntl, os, socket, struct, sys
HELLO, OPEN, READ, OPENED, FAILED = 1, 3, 4, 16, 18
ARENA = 4096
NO_URL = struct.pack("<IIQ", 2, 0, 0) + b"no URL"

def packet(kind, id, body):
    return struct.pack("<HHIQ", kind, 0, 16 + len(body), id) + body

def answer(s):
    return struct.unpack_from("<HHIQ", s.recv(1 << 16))[::3]

def client():
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.settimeout(60)
    s.connect(sys.argv[1])
    arena = os.memfd_create("arena", os.MFD_ALLOW_SEALING)
    os.ftruncate(arena, ARENA)
    fcntl.fcntl(arena, fcntl.F_ADD_SEALS,
                fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    socket.send_fds(s, [packet(HELLO, 0, b"eszg" +
                               struct.pack("<IQ", 5, ARENA))], [arena])
    assert answer(s)[0] == HELLO
    return s

def is_heard(s, id):
    s.send(packet(OPEN, id, NO_URL))
    return answer(s) == (FAILED, id)

mute, other = client(), client()
mute.setblocking(False)
sent, turns = 0, 0
# Turns of the loop in which it was not listened to: it had its chance.
while turns < 10 and sent < 100000:
    try:
        mute.send(packet(OPEN, sent + 1, NO_URL))
        sent, turns = sent + 1, 0
    except BlockingIOError:
        assert is_heard(other, 1)
        turns += 1
print("heard" if sent == 100000 else "not heard")
mute.settimeout(60)
for id in range(1, sent + 1):
    assert answer(mute) == (FAILED, id)
print("then answered" if is_heard(mute, sent + 1) else "not answered")

s = client()
s.send(packet(OPEN, 1, struct.pack("<IIQ", 2, 0, 0) + b"http://127.0.0.1:1/x"))
assert answer(s) == (OPENED, 1)
for id in range(1, 1026):
    s.send(packet(READ, id, struct.pack("<IIQQQII", 1, 0, 0, 1, 0, 0, 0)))
print("too many" if answer(s) == (FAILED, 1025) else "any number")
END
is "$(cat "$T/greedy")" "not heard
then answered
too many" "who does not read is not heard, and 1024 READs are enough" ||
	diag_file "$T/greedy.err"

### Size, and restart ###

# A sanitizer has memory of its own.
limit=6144
! grep -q libasan "/proc/$ESTARGZD_PID/maps" || limit=65536
dirty=$(awk '/^Private_Dirty/ {print $2}' "/proc/$ESTARGZD_PID/smaps_rollup")
at_most "${dirty:-99999}" $limit "private dirty memory after all that, KiB"
not_ok "a second instance does not start" \
	timeout 10 "$ESTARGZD" --socket "$FETCHER" --config "$T/conf.toml"
like "$(timeout 10 "$ESTARGZD" --socket "$FETCHER" --config "$T/conf.toml" 2>&1)" \
	"another instance is listening" "and says why"
kill -9 "$ESTARGZD_PID"
wait "$ESTARGZD_PID" 2>/dev/null
wait_for 5 pid_gone "$ESTARGZD_PID"
[ -S "$FETCHER" ] && pass "SIGKILL leaves a socket" || fail "a socket is left"
background d2 "$ESTARGZD" --socket "$FETCHER" --config "$T/conf.toml"
ESTARGZD_PID=$BG_PID
ok "which the next one replaces" wait_for 10 "$FETCHCTL" -s "$FETCHER" hello
kill "$ESTARGZD_PID"
ok "SIGTERM ends it" wait_for 5 pid_gone "$ESTARGZD_PID"
[ ! -e "$FETCHER" ] && pass "and its socket" || fail "its socket is left"

# What nobody can answer must not hold up its end.
start_estargzd d3 --config "$T/conf.toml"
background waiter "$FETCHCTL" -s "$FETCHER" -d 600000 read \
	"http://127.0.0.1:1/x" 0 10
wait_for 5 sh -c "'$FETCHCTL' -s '$FETCHER' status 2>/dev/null |
	jq -e '.requests_open >= 1'"
kill "$ESTARGZD_PID"
ok "SIGTERM ends it under load" wait_for 5 pid_gone "$ESTARGZD_PID"

### Command line and configuration ###

like "$("$ESTARGZD" --help)" '--exit-when-idle' "--help"
like "$("$ESTARGZD" --version)" '^estargzd [0-9]' "--version"
like "$(timeout 5 "$ESTARGZD" --config "$T/nothing" 2>&1)" 'nothing: No such' \
	"a configuration that is not there"
echo 'sockte = "/x"' >"$T/bad.toml"
like "$(timeout 5 "$ESTARGZD" --config "$T/bad.toml" 2>&1)" \
	'bad.toml: line 1: unknown key sockte' "an unknown key"
FETCHER=$T/run/idle.sock
background idle "$ESTARGZD" --socket "$FETCHER" --exit-when-idle
IDLE_PID=$BG_PID
wait_for 10 listens "$FETCHER"
ok "a client of a private fetcher" ctl hello
ok "it ends after its last client" wait_for 10 pid_gone "$IDLE_PID"
metrics=$T/run/metrics.sock
cat >"$T/m.toml" <<END
metrics_address = "unix:$metrics"
socket_mode = "0666"
END
start_estargzd d4 --config "$T/m.toml"
ctl read "$T/blob" 0 1000 >/dev/null
like "$(curl -s --max-time 10 --unix-socket "$metrics" http://x/metrics)" \
	'estargzd_bytes_total\{class="demand"\} 1000' "metrics"
is "$(stat -c %a "$FETCHER")" 666 "socket_mode"
stop_estargzd

# Socket activation and readiness, as systemd does them.
"$PYTHON" - "$ESTARGZD" "$T" <<'END' >"$T/activation" 2>"$T/act.err"
import os, socket, subprocess, sys
prog, t = sys.argv[1:]
l = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
l.bind(t + "/run/act.sock")
l.listen(5)
n = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
n.bind(t + "/run/notify.sock")
n.settimeout(10)
def child():
    os.dup2(l.fileno(), 3)
    os.set_inheritable(3, True)
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1",
                      NOTIFY_SOCKET=t + "/run/notify.sock")
    os.execv(prog, [prog])
pid = os.fork()
if pid == 0:
    child()
print(n.recv(100).decode())
c = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
c.settimeout(10)
c.connect(t + "/run/act.sock")
# Not HELLO: the connection is closed, and the daemon lives on.
c.send(b"\x04\0\0\0\x38\0\0\0" + b"\1" * 48)
print("closed" if c.recv(100) == b"" else "answered")
os.kill(pid, 15)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
END
is "$(tr '\n' ' ' <"$T/activation")" "READY=1 closed 0 " "socket activation"

### Basic authentication ###

start_registry auth=htpasswd
put_image "http://$REG" -u alice:s3cret || bail "cannot fill the registry"
B=$REG/t/img@$DIGEST
start_estargzd d5 --config "$T/conf.toml" --log-level debug
not_ok "no credentials" ctl read "$B" 0 10
like "$(cat "$T/ctl.err")" "EACCES.*$REG.*needs a login" "is EACCES"
mkdir -p "$HOME/.docker" "$T/bin"
auth() { printf '%s' "$1" | base64 -w0; }
cat >"$HOME/.docker/config.json" <<END
{"auths": {"$REG": {"auth": "$(auth alice:wrong)"}}}
END
not_ok "a wrong password" ctl read "$B" 0 10
like "$(cat "$T/ctl.err")" "EACCES: $REG/t/img: status 401" "is EACCES, too"
cat >"$HOME/.docker/config.json" <<END
{"auths": {"https://$REG/v1/": {"auth": "$(auth alice:s3cret)"}}}
END
ok "the right one, once it is there" same 9 99 read "$B" 9 99
ok "resolving with it" ctl resolve "$REG/t/img:v1"
stop_estargzd
cat >"$T/bin/docker-credential-lab" <<END
#!/bin/sh
read -r host
[ "\$host" = "$REG" ] || { echo "credentials not found"; exit 1; }
echo '{"ServerURL": "x", "Username": "alice", "Secret": "s3cret"}'
END
chmod +x "$T/bin/docker-credential-lab"
echo "{\"credHelpers\": {\"$REG\": \"lab\"}}" >"$HOME/.docker/config.json"
PATH=$T/bin:$PATH start_estargzd d6 --config "$T/conf.toml" --log-level debug
ok "a credential helper" same 9 99 read "$B" 9 99
stop_estargzd
echo '{"credsStore": "lab"}' >"$HOME/.docker/config.json"
PATH=$T/bin:$PATH start_estargzd d7 --config "$T/conf.toml" --log-level debug
ok "a credential store" same 9 99 read "$B" 9 99
stop_estargzd
not_ok "no secret in any log" grep -l -e s3cret -e "$(auth alice:s3cret)" \
	"$T"/d*.log

### Tokens, over TLS with a CA of its own ###

start_registry auth=token tls
host=localhost:${REG#*:}
mkdir -p "$T/certs.d/$host"
cat >"$T/certs.d/$host/hosts.toml" <<END
server = "https://$host"
ca = "$T/tls/ca.crt"
END
# What curl needs to fill a registry that wants tokens.
token=$(curl -sS -u alice:s3cret \
	"$TOKENS/token?service=lab&scope=repository:t/img:pull,push" |
	jq -r '.token // .access_token')
put_image "https://$host" --cacert "$T/tls/ca.crt" \
	-H "Authorization: Bearer $token" || bail "cannot fill the registry"
B=$host/t/img@$DIGEST
echo "{\"auths\": {\"$host\": {\"auth\": \"$(auth alice:s3cret)\"}}}" \
	>"$HOME/.docker/config.json"
start_estargzd d8 --config "$T/conf.toml" --log-level debug
ok "a token" same 9 99 read "$B" 9 99
ok "resolving with one" ctl resolve "$host/t/img:v1"
ctl status >"$T/status"
is "$(jq .tokens "$T/status")" 1 "one token for both"
echo "server = \"https://$host\"" >"$T/certs.d/$host/hosts.toml"
not_ok "an unknown CA" ctl resolve "$host/t/img:v1"
like "$(cat "$T/ctl.err")" "EACCES.*certificate" "is EACCES"
echo 'skip_verify = true' >>"$T/certs.d/$host/hosts.toml"
ok "unless nobody minds" ctl resolve "$host/t/img:v1"
stop_estargzd
not_ok "nothing was reported by a sanitizer" \
	grep -l -e 'ERROR: .*Sanitizer' -e 'runtime error' "$T"/*.log
done_testing

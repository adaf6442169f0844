#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# docker:// of the tool: pull, push, mount, artifacts, with a real registry and
# with one that misbehaves.
. "${top_srcdir:-.}/tests/lib.sh"
requires_cmd "$PYTHON" jq skopeo docker-registry htpasswd openssl curl
IMGCTL=$top_builddir/tests/tools/imgctl
[ -x "$IMGCTL" ] || plan_skip "imgctl is not built"
images small small-zstd

mkdir -p "$HOME/.docker" "$T/hosts"
# Of its own, whatever the machine has in /etc.
imgctl() { timeout 60 "$IMGCTL" -d "$T/hosts" "$@" 2>"$T/err"; }
ctl_ok() {
	local d=$1
	shift
	ok "$d" imgctl "$@" || diag_file "$T/err"
}
# ctl_not DESC REGEX ARGUMENTS: exit 1, one line that matches.
ctl_not() {
	local d=$1 re=$2 rc
	shift 2
	imgctl "$@" >"$T/out"
	rc=$?
	if [ $rc = 1 ] && [ "$(grep -cv '^level=' "$T/err")" = 1 ] &&
		grep -qiE -- "$re" "$T/err"; then
		pass "$d"
	else
		fail "$d"
		diag "exit $rc, want 1 and one line that matches: $re"
		diag_file "$T/err"
	fi
}
creds() {
	printf '{"auths":{"%s":{"auth":"%s"}}}' "$1" \
		"$(printf %s "${2:-alice:s3cret}" | base64)" \
		>"$HOME/.docker/config.json"
}
no_creds() { rm -f "$HOME/.docker/config.json"; }
api() { curl -sf --max-time 10 -u alice:s3cret "$@"; }
digest_of() { echo "sha256:$(sha256sum <"$1" | cut -d' ' -f1)"; }
# Blobs of a layout that its tag names: digest and size.
blobs_of() {
	jq -r '.config, .layers[] | "\(.digest) \(.size)"' \
		<"$(manifest_of "$1" "$2")"
}
root_of() { digest_of "$(manifest_of "$1" "$2")"; }

### A real registry ###
no_creds
start_registry
R=docker://$REG
ctl_ok "pushes an image" copy "oci:$IMAGES:small" "$R/a/b:v1"
is "$(imgctl root "$R/a/b:v1" | sha256sum)" \
	"$(sha256sum <"$(manifest_of "$IMAGES" small)")" "the manifest is the same"
ctl_ok "pulls it" copy "$R/a/b:v1" "oci:$T/back:x"
ok "with the same blobs" diff <(blobs_of "$T/back" x) <(blobs_of "$IMAGES" small)
ok "skopeo pulls it" skopeo copy --quiet --src-tls-verify=false "$R/a/b:v1" \
	"oci:$T/back2:x"
ctl_ok "pulls it by digest" copy "$R/a/b@$(root_of "$IMAGES" small)" \
	"oci:$T/back3:x"
ctl_ok "pushes by digest" copy "oci:$IMAGES:small" \
	"$R/d/e@$(root_of "$IMAGES" small)"
ctl_not "a digest that is not the image's" 'not sha256:0' copy \
	"oci:$IMAGES:small" "$R/d/e@sha256:$(printf '0%.0s' {1..64})"
ctl_not "a tag that is not there" 'a/b: manifest nope: .*404.*MANIFEST_UNKNOWN' \
	root "$R/a/b:nope"
: >"$REG_LOG"
ctl_ok "copies into another repository" copy "$R/a/b:v1" "$R/c:v2"
is "$(grep -c "PUT /v2/c/blobs" "$REG_LOG")" 1 "by mounts; but for the config"
ctl_ok "pushes what is there" copy "oci:$IMAGES:small" "$R/a/b:v3"
is "$(grep -c 'POST /v2/a/b/blobs' "$REG_LOG")" 0 "without another upload"

# Artifacts, behind a tag: this registry keeps no lists.
TYPE=application/vnd.example.trace.v1+json
echo '{"n":1}' >"$T/one"
echo '{"n":2}' >"$T/two"
ctl_not "no artifact" "status 404" referrer "$R/a/b:v1" $TYPE
export SOURCE_DATE_EPOCH=1000000000
ctl_ok "attaches an artifact" refer "oci:$IMAGES:small" "$R/a/b:v1" $TYPE "$T/one"
is "$(imgctl referrer "$R/a/b:v1" $TYPE)" '{"n":1}' "finds it"
ctl_not "but not one of another type" "no artifact" referrer "$R/a/b:v1" a/b
SOURCE_DATE_EPOCH=1000000001
ctl_ok "attaches one of another type" refer "oci:$IMAGES:small" "$R/a/b:v1" \
	a/b "$T/one"
ctl_ok "attaches another in its place" refer "oci:$IMAGES:small" "$R/a/b:v1" \
	$TYPE "$T/two"
is "$(imgctl referrer "$R/a/b:v1" $TYPE)" '{"n":2}' "finds that one"
LIST=sha256-$(root_of "$IMAGES" small | cut -d: -f2)
is "$(imgctl root "$R/a/b:$LIST" | jq -c '[.mediaType, (.manifests | length)]')" \
	'["application/vnd.oci.image.index.v1+json",2]' "its list has two"

### Logins ###
start_registry auth=htpasswd
R=docker://$REG
ctl_not "no credentials" "$REG/a/b: .*(401|login)" copy "oci:$IMAGES:small" \
	"$R/a/b:v1"
creds "$REG" alice:wrong
ctl_not "wrong credentials" "$REG/a/b: .*status 401, cred" copy \
	"oci:$IMAGES:small" "$R/a/b:v1"
not_ok "the password is not told" grep -q wrong "$T/err"
creds "$REG"
ctl_ok "pushes with Basic" copy "oci:$IMAGES:small" "$R/a/b:v1"
ctl_ok "pulls with Basic" copy "$R/a/b:v1" "oci:$T/basic:x"
start_registry auth=token
R=docker://$REG
creds "$REG"
: >"$T/tokens.log"
ctl_ok "pushes with tokens" copy "oci:$IMAGES:small" "$R/a/b:v1"
at_most "$(grep -c '"GET"\|"POST"' "$T/tokens.log")" 1 "one token for all of it"
like "$(cat "$T/tokens.log")" 'repository:a/b:pull,push' "for pull and push"
: >"$T/tokens.log"
ctl_ok "pulls with tokens" copy "$R/a/b:v1" "oci:$T/token:x"
not_ok "which are for pull only" grep -q push "$T/tokens.log"
: >"$T/tokens.log"
ctl_ok "copies with tokens" copy "$R/a/b:v1" "$R/c:v1"
like "$(cat "$T/tokens.log")" 'repository:c:pull,push.*repository:a/b:pull' \
	"a mount asks for both repositories"

start_srv short --push "$T/short" --auth bearer --user alice:s3cret --token-uses 3
creds "$SRV_ADDR"
ctl_ok "pushes with tokens that end" copy "oci:$IMAGES:small" \
	"docker://$SRV_ADDR/a/b:v1"
at_most 3 "$(srv_count path=/token)" "which are renewed"
ctl_ok "mounts with tokens that end" copy "docker://$SRV_ADDR/a/b:v1" \
	"docker://$SRV_ADDR/c:v1"
is "$(srv_count 'method=PUT&path=/c/blobs')" 1 "all but the config"
start_srv ident --push "$T/ident" --auth bearer --identity r3fresh
printf '{"auths":{"%s":{"identitytoken":"r3fresh"}}}' "$SRV_ADDR" \
	>"$HOME/.docker/config.json"
ctl_ok "pushes with an identity token" copy "oci:$IMAGES:small" \
	"docker://$SRV_ADDR/a/b:v1"
ctl_ok "mounts with an identity token" copy "docker://$SRV_ADDR/a/b:v1" \
	"docker://$SRV_ADDR/c:v1"
is "$(srv_count 'method=PUT&path=/c/blobs')" 1 "all but the config"
no_creds
start_srv readers --push "$T/readers" --auth bearer --anonymous --read-only
ctl_not "who may only pull" "$SRV_ADDR/a/b: .*401" copy "oci:$IMAGES:small" \
	"docker://$SRV_ADDR/a/b:v1"
at_most "$(srv_count path=/token)" 3 "does not ask for ever"

### Pushes that go wrong ###
head -c 36000000 /dev/urandom >"$T/big"
BIG=$(digest_of "$T/big")
head -c 3000000 /dev/urandom >"$T/little"
LITTLE=$(digest_of "$T/little")
start_srv lab --push "$T/lab"
R=docker://$SRV_ADDR
pulled() { imgctl cat "$R/$1" "$2" "$3" | cmp - "$4"; }
# fails_once DESC FAULT: a big blob arrives nevertheless.
NTH=0
fails_once() {
	local d=$1
	NTH=$((NTH + 1))
	srv_reset
	shift
	[ $# = 0 ] || srv_fault "$@"
	ctl_ok "$d: pushed" put "$R/n$NTH:x" "$T/big"
	# The lab has hashed it.
	ok "$d: complete" srv_ctl -I "$SRV_URL/v2/n$NTH/blobs/$BIG"
}
n_of() { srv_count "method=$1&path=uploads"; }
fails_once "nothing"
is "$(n_of POST),$(n_of PATCH),$(n_of PUT),$(n_of GET),$(n_of DELETE)" \
	1,3,1,0,0 "in three chunks"
fails_once "errors at first" \
	'{"kind":"status","status":503,"method":"POST","count":2}' \
	'{"kind":"status","status":429,"retry_after":1,"method":"PATCH","count":1}'
is "$(n_of POST)" 3 "asked three times"
fails_once "a chunk that breaks off" \
	'{"kind":"cut","after":5000000,"method":"PATCH","skip":1,"count":1}'
is "$(n_of POST),$(n_of GET)" 1,1 "the upload goes on"
is "$(srv_ctl "$SRV_URL/_ctl/log?method=PATCH" | jq -s 'map(.length | tonumber) |
	add - 36000000 < 16777216')" true "from where it broke off"
fails_once "an answer that is lost" '{"kind":"full","method":"PATCH","count":1}'
is "$(n_of POST),$(n_of PATCH)" 1,3 "nothing is sent twice"
fails_once "the last answer is lost" '{"kind":"full","method":"PUT","count":1}'
is "$(n_of POST)" 1 "the blob is there"
fails_once "an upload that expires" \
	'{"kind":"expire","method":"PATCH","skip":2,"count":1}'
is "$(n_of POST)" 2 "is begun anew"
fails_once "no chunks" \
	'{"kind":"status","status":405,"method":"PATCH","count":-1}'
is "$(n_of PATCH),$(n_of PUT)" 1,1 "goes in one piece"
fails_once "no chunks, said before they came" \
	'{"kind":"status","status":501,"method":"PATCH","early":true,"count":-1}'
fails_once "chunks that are ignored" '{"kind":"ignore-chunk","count":-1}'
is "$(n_of PATCH),$(n_of PUT)" 1,1 "goes in one piece"
fails_once "only one chunk" \
	'{"kind":"status","status":400,"method":"PATCH","skip":1,"count":-1}'
is "$(n_of POST),$(n_of PUT)" 2,1 "goes in one piece"
fails_once "chunks that make an upload end" \
	'{"kind":"expire","method":"PATCH","skip":1,"count":-1}'
is "$(n_of POST),$(n_of PUT)" 4,1 "goes in one piece at last"
fails_once "nothing said of what is there" '{"kind":"no-range","count":-1}'
fails_once "Locations without a host" '{"kind":"relative","count":-1}'
srv_reset
srv_fault '{"kind":"status","status":413,"method":"PATCH","count":-1,
	"body":"{\"errors\":[{\"code\":\"SIZE_INVALID\",\"message\":\"too \\u001b big\"}]}"}'
ctl_not "a blob that is refused" \
	"$SRV_ADDR/a/b: push blob $BIG: status 413 \(SIZE_INVALID: too \? big\)" \
	put "$R/a/b:x" "$T/big"
is "$(n_of DELETE)" 1 "its upload is taken back"
srv_reset
srv_fault '{"kind":"status","status":500,"method":"POST","count":-1}'
ctl_not "a registry in trouble" 'status 500, the server is in trouble' \
	put "$R/a/b:x" "$T/little"
srv_reset
srv_fault '{"kind":"crumbs","method":"PATCH","count":-1}'
ctl_not "chunks taken bit by bit" 'takes crumbs' put "$R/a/b:x" "$T/big"
srv_reset
srv_fault '{"kind":"wrong-digest","method":"PUT","count":-1}'
ctl_not "another digest is said to be there" "says it is sha256:5555" \
	put "$R/a/b:x" "$T/little"

# Mounts that do not come to be.
srv_reset
ctl_ok "pushes to the lab" copy "oci:$IMAGES:small" "$R/from:v1"
srv_reset
ctl_ok "mounts in the lab" copy "$R/from:v1" "$R/to:v1"
is "$(srv_count 'method=PUT&path=blobs')" 1 "all but the config"
srv_reset
srv_fault '{"kind":"no-mount","count":-1}'
ctl_ok "no mounts" copy "$R/from:v1" "$R/to2:v1"
is "$(n_of DELETE)" "$(srv_count 'path=mount=')" "uploads begun instead end"
ok "the image is there" diff \
	<(imgctl root "$R/to2:v1") <(imgctl root "$R/from:v1")

# Killed: the tag is what it was, and the next push goes on.
ctl_ok "a tag" copy "oci:$IMAGES:small-zstd" "$R/kill:v1"
WAS=$(imgctl root "$R/kill:v1" | sha256sum)
waiting() { [ "$(srv_count "fault=delay")" = 1 ]; }
for at in '"method":"HEAD"' '"method":"POST"' '"method":"PUT","path":"uploads"' \
	'"method":"PUT","path":"uploads","skip":1' \
	'"method":"PUT","path":"manifests"'; do
	srv_reset
	srv_fault "{\"kind\":\"delay\",\"ms\":60000,\"count\":1,$at}"
	background kill "$IMGCTL" -d "$T/hosts" copy "oci:$IMAGES:small" "$R/kill:v1"
	ok "killed at $at" wait_for 20 waiting
	kill -9 "$BG_PID"
	wait "$BG_PID" 2>/dev/null
	is "$(imgctl root "$R/kill:v1" | sha256sum)" "$WAS" "the tag is what it was"
done
srv_reset
ctl_ok "the next one pushes" copy "oci:$IMAGES:small" "$R/kill:v1"
is "$(n_of POST)" 0 "what is there is not sent again"
is "$(imgctl root "$R/kill:v1" | sha256sum)" \
	"$(sha256sum <"$(manifest_of "$IMAGES" small)")" "the tag is the new one"

# Artifacts, in lists that the registry keeps, three a page.
start_srv lists --push "$T/lists" --referrers --page 3
R=docker://$SRV_ADDR
for i in 1 2 3 4 5 6 7; do
	echo "{\"n\":$i}" >"$T/n"
	SOURCE_DATE_EPOCH=$((1000000000 + i)) imgctl refer "oci:$IMAGES:small" \
		"$R/a/b:v1" $TYPE "$T/n" || diag_file "$T/err"
done
is "$(imgctl referrer "$R/a/b:v1" $TYPE)" '{"n":7}' "the newest of many artifacts"
is "$(srv_count 'path=referrers')" 3 "from three pages"
is "$(srv_count 'method=PUT&path=sha256-')" 0 "no list of ours"
srv_reset
srv_fault '{"kind":"status","status":503,"path":"referrers","count":1}'
is "$(imgctl referrer "$R/a/b:v1" $TYPE)" '{"n":7}' "lists are asked for again"

# A registry that wants large chunks.
start_srv large --push "$T/large" --chunk-min 20000000
R=docker://$SRV_ADDR
fails_once "large chunks"
is "$(srv_ctl "$SRV_URL/_ctl/log?method=PATCH" | jq -s -c 'map(.length)')" \
	'["20000000","16000000"]' "as large as wanted"

### Pulls that go wrong ###
pull_ok() {
	local d=$1
	srv_reset
	shift
	srv_fault "$@"
	ok "$d" pulled "n$NTH:x" "$BIG" 36000000 "$T/big"
}
pull_ok "a reset in the middle" '{"kind":"reset","after":7000000,"count":2}'
is "$(srv_ctl "$SRV_URL/_ctl/log" | jq -r .range | grep -c '^bytes=[1-9][0-9]*-$')" \
	2 "goes on from there"
pull_ok "an end in the middle" '{"kind":"short","after":9000000,"count":1}'
pull_ok "a server without ranges" '{"kind":"short","after":9000000,"count":1}' \
	'{"kind":"ignore-range","count":-1}'
pull_ok "errors at first" '{"kind":"status","status":502,"count":2}'
pull_ok "no length" '{"kind":"chunked","count":-1}'
srv_reset
srv_fault '{"kind":"flip","at":35000000,"count":-1}'
ctl_not "a flipped byte" 'has the digest' cat "$R/n$NTH:x" "$BIG" 36000000
srv_reset
srv_fault '{"kind":"short","after":9000000,"count":1}' \
	'{"kind":"content-range","value":"bytes 0-{b}/{n}","count":-1}'
ctl_not "another range than asked for" 'sent another range' \
	cat "$R/n$NTH:x" "$BIG" 36000000
ctl_not "another size than the descriptor's" 'has another size' \
	cat "$R/n$NTH:x" "$BIG" 35999999
srv_reset
ok "four read at once" bash -c "'$IMGCTL' -d '$T/hosts' cats '$R/n$NTH:x' \
	$BIG 36000000 4 | cmp - '$T/big'"
span() { imgctl range "$R/n$NTH:x" "$BIG" "$@" | cmp - "$T/want"; }
head -c 1010000 "$T/big" | tail -c 10000 >"$T/want"
ok "a range" span 36000000 1000000 10000
srv_fault '{"kind":"ignore-range","count":1}'
ok "a range of a server without" span 36000000 1000000 10000
srv_reset
srv_fault '{"kind":"less","n":3000,"count":2}'
ok "a range in parts" span 36000000 1000000 10000
srv_reset
srv_fault '{"kind":"short","after":3000,"count":2}'
ok "a range that breaks off" span 36000000 1000000 10000
tail -c 5000 "$T/big" >"$T/want"
ok "the end" span 36000000 end 5000
ok "the end of a blob whose size is not known" span 0 end 5000
ctl_not "a range behind the end" 'has 36000000 bytes' range "$R/n$NTH:x" "$BIG" \
	36000000 35999999 2

MAIN=$SRV_ADDR

### TLS, and HTTP/2 ###
start_registry tls
mkdir -p "$T/hosts/$REG"
cp "$T/tls/ca.crt" "$T/hosts/$REG/hosts.crt"
R=docker://$REG
ctl_ok "pushes over TLS" copy "oci:$IMAGES:small" "$R/a/b:v1"
ctl_ok "a big blob" put "$R/a/b:v1" "$T/big"
ok "which comes back" pulled a/b:v1 "$BIG" 36000000 "$T/big"
ok "four at once" bash -c "'$IMGCTL' -d '$T/hosts' cats '$R/a/b:v1' \
	$BIG 36000000 4 | cmp - '$T/big'"
rm "$T/hosts/$REG/hosts.crt"
echo "server = \"https://$REG\"" >"$T/hosts/$REG/hosts.toml"
ctl_not "an authority that nobody knows" "$REG/a/b: .*certificate" put \
	"$R/a/b:v1" "$T/little"
start_srv tls --push "$T/tls-lab" --tls "$T/tls/srv.crt" "$T/tls/srv.key"
SRV_URL=https://$SRV_ADDR
R=docker://$SRV_ADDR
mkdir -p "$T/hosts/$SRV_ADDR"
cp "$T/tls/ca.crt" "$T/hosts/$SRV_ADDR/hosts.crt"
srv_fault '{"kind":"cut","after":5000000,"method":"PATCH","count":1}'
ctl_ok "a connection of TLS that breaks" put "$R/a/b:v1" "$T/big"

### Mirrors ###
start_srv mirror --push "$T/mirror"
mkdir -p "$T/hosts/$MAIN"
cat >"$T/hosts/$MAIN/hosts.toml" <<END
server = "http://$MAIN"
[host."http://$SRV_ADDR"]
  capabilities = ["pull", "resolve"]
END
R=docker://$MAIN
ctl_ok "pushes to the registry" copy "oci:$IMAGES:small" "$R/m:v1"
is "$(srv_count)" 0 "not to a mirror that only serves"
ctl_ok "what the mirror has not" copy "$R/m:v1" "oci:$T/mirror1:x"
at_most 1 "$(srv_count 'status=404&path=ns=')" "is asked of it first"
imgctl copy "oci:$IMAGES:small" "docker://$SRV_ADDR/m:v1"
srv_reset
ctl_ok "what the mirror has" copy "$R/m:v1" "oci:$T/mirror2:x"
is "$(srv_count 'status=200&path=blobs')" "$(blobs_of "$IMAGES" small | sort -u | wc -l)" \
	"comes from there"
srv_reset
srv_fault '{"kind":"zeros","path":"manifests","count":-1}'
ctl_ok "a mirror that lies about a manifest" copy \
	"$R/m@$(root_of "$IMAGES" small)" "oci:$T/mirror3:x"
stop_pid "$SRV_PID"
ctl_ok "a mirror that is gone" copy "$R/m:v1" "oci:$T/mirror4:x"
done_testing

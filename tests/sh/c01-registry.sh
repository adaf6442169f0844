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
done_testing

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The trace of an image that is named by nothing but its manifest: found by the
# list of referrers or the tag for them, asked for once, waited for by nobody.
# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/../..}/tests/lib.sh"
requires_cmd curl jq docker-registry
images small
FETCHCTL=${FETCHCTL:-$top_builddir/tests/tools/fetchctl}
[ -x "$ESTARGZD" ] && [ -x "$FETCHCTL" ] || plan_skip "not built"

ctl() { timeout 60 "$FETCHCTL" -s "$FETCHER" "$@" 2>"$T/ctl.err"; }
O=$T/oci
OCI=application/vnd.oci.image
TYPE=application/vnd.estargz.trace.v1+json
put() { # FILE: into the registry; sets H and N, its size
	N=$(stat -c %s "$1")
	H=$(sha256sum <"$1")
	H=${H%% *}
	mv "$1" "$O/blobs/sha256/$H"
}
# artifact SUBJECT TYPE TRACE: sets H
artifact() {
	printf '{"schemaVersion":2,"mediaType":"%s","artifactType":"%s",
		"config":{},"subject":{"digest":"sha256:%s"},
		"layers":[{"mediaType":"%s","digest":"sha256:%s","size":1}]}' \
		$OCI.manifest.v1+json "$2" "$1" "$2" "$3" >"$T/artifact"
	put "$T/artifact"
}
# entry TYPE CREATED: of the artifact H
entry() {
	printf '{"mediaType":"%s","digest":"sha256:%s","size":%s,
		"artifactType":"%s","annotations":
		{"org.opencontainers.image.created":"%s"}}' \
		$OCI.manifest.v1+json "$H" "$N" "$1" "$2"
}
list() { # ENTRIES...
	local IFS=,
	printf '{"schemaVersion":2,"mediaType":"%s","manifests":[%s]}' \
		$OCI.index.v1+json "$*"
}
gets() { srv_count "path=$1"; }
logged() { grep -c -e "$1" "$T/d$TRY.log"; }
is_logged() { [ "$(logged "$1")" -ge 1 ]; }
image() { echo "$HOST/a/b@sha256:$M"; }
blob() { echo "$HOST/a/b@sha256:$D"; }
# The hints of the blob, of an image of which only the manifest is known.
hints() {
	ctl -T "?sha256:$M" hints "$(blob)" >"$T/hints" || diag_file "$T/ctl.err"
	tr '\n' ' ' <"$T/hints"
	cat "$T/ctl.err"
}
TRY=0
fresh() {
	TRY=$((TRY + 1))
	stop_estargzd
	srv_clear
	srv_reset
	start_estargzd "d$TRY" --config "$T/conf.toml" --log-level debug
}
serves() { # ARGUMENTS: another server of the same
	[ -z "${SRV_PID:-}" ] || stop_pid "$SRV_PID"
	start_srv "srv$TRY" --oci "$O" "$@"
	HOST=$SRV_ADDR
	fresh
}

mkdir -p "$O/blobs/sha256" "$O/referrers" "$T/spool"
printf 'spool_dir = "%s"\nhosts_dir = "%s"\nstall_timeout_s = 300\n' \
	"$T/spool" "$T" >"$T/conf.toml"
head -c 4000000 /dev/urandom >"$T/blob"
put "$T/blob"
D=$H
echo "the manifest" >"$T/m"
put "$T/m"
M=$H
trace_of() { # READS: sets H
	printf '{"version":1,"layers":["sha256:%s"],"reads":[%s]}' "$D" "$1" \
		>"$T/trace"
	put "$T/trace"
}
# Behind the opening of the blob, which WARM asks for where the trace is late.
trace_of '[0,1000000,100000],[0,500000,1000]'
TRACE=$H
WANT="1000000 100000 500000 1000 "
trace_of '[0,7,7]'
OLD=$H
artifact "$M" $TYPE "$OLD"
E_OLD=$(entry $TYPE 2020-01-01T00:00:00Z)
artifact "$M" $TYPE "$TRACE"
E=$(entry $TYPE 2021-01-01T00:00:00Z)
ARTIFACT=$H
artifact "$M" text/x-else "$OLD"
E_ELSE=$(entry text/x-else 2022-01-01T00:00:00Z)
list "$E_OLD" "$E" "$E_ELSE" >"$T/list"

tag() { # FILE: behind the tag for referrers
	cp "$1" "$T/tagged"
	put "$T/tagged"
	jq -n --arg d "sha256:$H" --arg t "sha256-$M" '{schemaVersion: 2,
		manifests: [{digest: $d, mediaType: "'$OCI.index.v1+json'",
			annotations: {"org.opencontainers.image.ref.name": $t}}]}' \
		>"$O/index.json"
}
untag() { echo '{"schemaVersion":2,"manifests":[]}' >"$O/index.json"; }
api() { cp "$1" "$O/referrers/$M"; }

### By the API ###

untag
api "$T/list"
serves --referrers
is "$(hints)" "$WANT" "the newest of the type is found"
is "$(gets /referrers/)" 1 "by the list of referrers"
is "$(srv_ctl "$SRV_URL/_ctl/log" | jq -r .path | grep -c 'artifactType=application%2Fvnd.estargz.trace.v1%2Bjson$')" \
	1 "of this type alone"
is "$(gets /manifests/sha256-)" 0 "not by the tag"
is "$(hints)" "$WANT" "another client is told as well"
is "$(gets /referrers/) $(gets "/manifests/sha256:$ARTIFACT") $(gets "/blobs/sha256:$TRACE")" \
	"1 1 1" "nothing is asked for twice"
fresh
ok "WARM with an image" ctl warm -t 4096 "?$(image)" "$(blob)"
traced() { [ "$(ctl status | jq .trace_bytes)" = 101000 ]; }
ok "fetches what its trace names" wait_for 10 traced
is "$(hints)" "$WANT" "of which who opens is told"
is "$(gets /referrers/)" 1 "and it is not looked for again"
fresh
srv_fault '{"kind": "stall", "after": 0, "path": "/referrers/"}'
ok "a list that stalls: WARM" ctl warm -t 4096 "?$(image)" "$(blob)"
ok "a list that stalls: OPEN and READ" ctl -T "?sha256:$M" read "$(blob)" \
	3000000 1000
asked() { [ "$(gets 'referrers')" = 1 ]; }
ok "both have asked by then" wait_for 10 asked
srv_clear

### By the tag ###

tag "$T/list"
serves
is "$(hints)" "$WANT" "a registry without the API"
is "$(gets /referrers/) $(gets "/manifests/sha256-$M")" "1 1" \
	"is asked for the tag"
srv_fault '{"kind": "html", "path": "/referrers/"}'
fresh
srv_fault '{"kind": "html", "path": "/referrers/"}'
is "$(hints)" "$WANT" "and one that has a page for everything"

### None ###

untag
fresh
is "$(hints)" "none" "neither"
before=$(srv_count)
ok "a READ beside that" ctl -T "?sha256:$M" read "$(blob)" 0 1000
not_ok "who opens it then is not to wait for hints" ctl -T "?sha256:$M" hints \
	"$(blob)"
ok "nor who warms it" ctl warm -t 4096 "?$(image)" "$(blob)"
is "$(gets /referrers/) $(gets "/manifests/")" "1 1" "it is remembered"
is "$(logged 'no trace')" 0 "and is no news"
list "$E_ELSE" >"$T/else"
tag "$T/else"
fresh
is "$(hints)" "none" "artifacts of other types"

### No good ###

# bad DESC REGEX: once in the log, and asked for no more than once.
bad() {
	is "$(hints)" none "$1: there are no hints"
	is "$(logged "no trace: .*$2")" 1 "$1: is said once"
	ok "$1: a READ" ctl -T "?sha256:$M" read "$(blob)" 0 1000
	is "$(gets /referrers/)" 1 "$1: it is not asked for again"
	is "$(ctl status | jq -c .failed)" '{}' "$1: nothing has failed"
}
tag "$T/list"
fresh
srv_fault '{"kind": "status", "status": 503, "path": "/referrers/"}'
bad "a server that is down" "status 503"
fresh
srv_fault '{"kind": "status", "status": 403, "path": "/referrers/"}'
bad "a server that refuses" "status 403"
fresh
srv_fault '{"kind": "status", "status": 200, "path": "/manifests/sha256-",
	"body": "{\"manifests\":["}'
bad "a list that is cut off" "not JSON"
fresh
jq -n '{kind: "status", status: 200, path: "/manifests/sha256-",
	body: (" " * 600000)}' | srv_ctl --data-binary @- "$SRV_URL/_ctl/fault"
bad "a list that is too large" "too large"
list "$(entry $TYPE 2030-01-01T00:00:00Z | sed 's/sha256:/md5:/')" >"$T/bad"
tag "$T/bad"
fresh
bad "a digest that is none" "bad digest"
tag "$T/list"
fresh
srv_fault "{\"kind\": \"flip\", \"at\": 3, \"path\": \"sha256:$ARTIFACT\"}"
bad "an artifact that is changed" "does not have its digest"
fresh
srv_fault "{\"kind\": \"status\", \"status\": 404, \"path\": \"sha256:$ARTIFACT\"}"
bad "an artifact that is not there" "status 404"
artifact "$D" $TYPE "$TRACE"
list "$(entry $TYPE 2030-01-01T00:00:00Z)" >"$T/bad"
tag "$T/bad"
fresh
bad "an artifact of another image" "of another image"
artifact "$M" text/x-else "$TRACE"
list "$(entry $TYPE 2030-01-01T00:00:00Z)" >"$T/bad"
tag "$T/bad"
fresh
bad "an artifact of another type" "not a .* of one blob"
stop_estargzd

### A real registry ###

start_registry
imgctl() { timeout 60 "$top_builddir/tests/tools/imgctl" -d "$T" "$@"; }
manifest=$(manifest_of "$IMAGES" small)
M=$(sha256sum <"$manifest" | cut -d' ' -f1)
D=$(jq -r '.layers[0].digest' <"$manifest" | cut -d: -f2)
printf '{"version":1,"layers":["sha256:%s"],"reads":[[0,5,77]]}' "$D" \
	>"$T/trace"
ok "an image" imgctl copy "oci:$IMAGES:small" "docker://$REG/a/b:v1"
ok "and the trace that it got later" imgctl refer "oci:$IMAGES:small" \
	"docker://$REG/a/b:v1" $TYPE "$T/trace"
start_estargzd real --config "$T/conf.toml"
HOST=$REG
is "$(hints)" "5 77 " "is found"
stop_estargzd

not_ok "nothing was reported by a sanitizer" \
	grep -l -e 'ERROR: .*Sanitizer' -e 'runtime error' "$T"/*.log
done_testing

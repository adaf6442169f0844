#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# An image that says nothing of a trace, and one that refers to it: containerd
# names the manifest, the registry has the tag for what refers to that, and each
# layer's worker is told its part.
. "${top_srcdir:-.}/tests/lib.sh"
. "${top_srcdir:-.}/tests/containerd.sh"
requires_containerd own 2
requires_cmd docker-registry
[ "$SNAPSHOTTER" = estargz ] || plan_skip "is about estargz"
images small
IMGCTL=$top_builddir/tests/tools/imgctl
[ -x "$IMGCTL" ] || plan_skip "imgctl is not built"

start_registry
R=$REG/lab/img:small
NS=k8s.io
SANDBOX=$REG/lab/img:none
SNAP_PREFETCH=true
manifest=$(manifest_of "$IMAGES" small)
imgctl() { timeout 60 "$IMGCTL" -d "$T" "$@"; }
# Of the two large ones: the small ones may be complete before.
jq -c '{version: 1, layers: .layers | unique | sort_by(-.size) | map(.digest),
	reads: [[0, 5, 77], [1, 10, 20], [0, 3000000, 1]]}' \
	"$manifest" >"$T/trace"
ok "an image" imgctl copy "oci:$IMAGES:small" "docker://$R"
ok "and the trace that refers to it" imgctl refer "oci:$IMAGES:small" \
	"docker://$R" application/vnd.estargz.trace.v1+json "$T/trace"
trace=$(sha256sum <"$T/trace" | cut -d ' ' -f 1)
m=$(sha256sum <"$manifest" | cut -d ' ' -f 1)

# What the workers of our layers follow, in the order of the trace's layers.
told() {
	"$ESTARGZ" status --json | jq -c --arg m "$SNAP/m/" \
		--argjson l "$(jq .layers "$T/trace")" \
		'[.[] | select(.target | startswith($m))] |
			sort_by(.digest as $d | $l | index($d)) |
			map(.trace_ranges)'
}
told_is() { [ "$(told)" = "$1" ]; }
# asked PATH: how often the registry was, by estargzd
asked() { grep -c "\"GET /v2/lab/img/$1.*estargz" "$REG_LOG"; }

by() {
	local v=$1 list tag blob
	list=$(asked "referrers/sha256:$m")
	tag=$(asked "manifests/sha256-$m")
	blob=$(asked "blobs/sha256:$trace")
	ok "$v: pulls" cri pull "$R"
	is "$(n_lazy)" 4 "$v: lazily"
	ok "$v: the layers are told their parts" wait_for 20 told_is '[2,1,0,0]'
	diag "$(told)"
	is "$(($(asked "referrers/sha256:$m") - list)) $(($(asked \
		"manifests/sha256-$m") - tag)) $(($(asked \
		"blobs/sha256:$trace") - blob))" "1 1 1" \
		"$v: which is looked for once"
	ok "$v: the image goes" cri rmi "$R"
}
with_cri by
done_testing

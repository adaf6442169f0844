#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# HTTPS_PROXY and NO_PROXY: who is asked through the proxy, and who is not.
. "${top_srcdir:-.}/tests/lib.sh"
requires_mount
requires_cmd jq skopeo docker-registry openssl
images small-gz1

M=$T/m
B=$(layer_blob "$IMAGES" small-gz1 2)
start_registry tls
S=localhost:${REG#*:}/a/b:v1
push "$IMAGES:small-gz1" a/b:v1 || bail push
mkdir -p "$T/certs.d/localhost:${REG#*:}"
cp "$T/tls/ca.crt" "$T/certs.d/localhost:${REG#*:}/ca.crt"
cat >"$T/certs.d/localhost:${REG#*:}/hosts.toml" <<END
server = "https://localhost:${REG#*:}"
[host."https://localhost:${REG#*:}"]
  capabilities = ["pull", "resolve"]
  ca = "ca.crt"
END
estargzd_config "$T/certs.d"
background proxy "$PYTHON" "$TOOLS/connectproxy.py" "$T/proxy.port"
wait_for 20 test -s "$T/proxy.port" || bail "the proxy did not start"
export HTTPS_PROXY=http://127.0.0.1:$(cat "$T/proxy.port")
asked() { grep -c "^CONNECT localhost:${REG#*:}$" "$T/proxy.log"; }

# reads DESC: mounts by a fresh estargzd and reads everything.
reads() {
	STATE=$T/state-$TAP_N
	ok "$1: estargzd starts" start_estargzd "d$TAP_N" \
		--config "$T/estargzd.toml"
	ok "$1: mounts" mount_esgz "$S" "$M" layer=2
	ok "$1: the tree is the tar's" treecmp "$M" "$B"
	ok "$1: unmounts" umount_esgz "$M"
	stop_estargzd
	rm -rf "$STATE"
}

reads "a proxy"
n=$(asked)
ok "it was asked through" [ "$n" -ge 1 ]
export NO_PROXY=localhost
reads "NO_PROXY"
is "$(asked)" "$n" "it was not asked again"
export NO_PROXY=example.org
reads "NO_PROXY for another host"
ok "it was asked again" [ "$(asked)" -gt "$n" ]
no_leaks "leaves nothing"
done_testing

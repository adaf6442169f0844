#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Registries that want to know who asks: Basic, Bearer tokens, TLS with a
# private CA, the kinds of ~/.docker/config.json.
. "${top_srcdir:-.}/tests/lib.sh"
requires_mount
requires_cmd jq skopeo docker-registry htpasswd openssl curl
images small-gz1

M=$T/m
B=$(layer_blob "$IMAGES" small-gz1 2)
CREDS=(--dest-creds alice:s3cret)
mkdir -p "$HOME/.docker" "$T/bin"
export PATH=$T/bin:$PATH
no_creds() { rm -f "$HOME/.docker/config.json"; }
# creds HOST [USER:PASSWORD]
creds() {
	printf '{"auths":{"%s":{"auth":"%s"}}}' "$1" \
		"$(printf %s "${2:-alice:s3cret}" | base64)" \
		>"$HOME/.docker/config.json"
}
# reads DESC SOURCE [OPTIONS]
reads() {
	STATE=$T/state-$TAP_N
	ok "$1: mounts" mount_esgz "$2" "$M" "layer=2${3:+,$3}" || return
	ok "$1: the tree is the tar's" treecmp "$M" "$B"
	ok "$1: unmounts" umount_esgz "$M"
	rm -rf "$STATE"
}

### Basic ###
start_registry auth=htpasswd
push "$IMAGES:small-gz1" a/b:v1 "${CREDS[@]}" || bail push
S=$REG/a/b:v1
no_creds
refused "Basic, no credentials" "$S" '401|auth|denied|refus|credential' plain_http
creds "$REG" alice:wrong
refused "Basic, a wrong password" "$S" '401|auth|denied|refus|credential' \
	plain_http
not_ok "the password is not told" grep -rq wrong "$T/mount.err"
creds "$REG"
reads "Basic, auths" "$S" plain_http
creds "http://$REG/v2/"
reads "Basic, auths by URL" "$S" plain_http
printf '{"auths":{"%s":{"username":"alice","password":"s3cret"}}}' "$REG" \
	>"$HOME/.docker/config.json"
reads "Basic, auths with username and password" "$S" plain_http
mkdir -p "$T/elsewhere"
mv "$HOME/.docker/config.json" "$T/elsewhere"
DOCKER_CONFIG=$T/elsewhere reads "Basic, DOCKER_CONFIG" "$S" plain_http
cat >"$T/bin/docker-credential-lab" <<END
#!/bin/sh
read -r host
echo "\$1 \$host" >>"$T/helper.log"
[ "\$1" = get ] || exit 1
[ "\$host" = "$REG" ] || { echo "credentials not found in native keychain"; exit 1; }
printf '{"ServerURL":"%s","Username":"alice","Secret":"s3cret"}' "\$host"
END
chmod +x "$T/bin/docker-credential-lab"
printf '{"credHelpers":{"%s":"lab"}}' "$REG" >"$HOME/.docker/config.json"
reads "Basic, credHelpers" "$S" plain_http
printf '{"credsStore":"lab"}' >"$HOME/.docker/config.json"
reads "Basic, credsStore" "$S" plain_http
printf '{"credHelpers":{"%s":"missing"}}' "$REG" >"$HOME/.docker/config.json"
refused "a helper that is not there" "$S" \
	'401|auth|denied|refus|credential|helper' plain_http
echo '{"auths": [' >"$HOME/.docker/config.json"
refused "a config.json that is broken" "$S" \
	'401|auth|denied|refus|credential|config' plain_http

### Bearer ###
start_registry auth=token
push "$IMAGES:small-gz1" a/b:v1 "${CREDS[@]}" || bail push
S=$REG/a/b:v1
no_creds
refused "Bearer, no credentials" "$S" '401|auth|denied|refus|credential|token' \
	plain_http
creds "$REG" alice:wrong
refused "Bearer, a wrong password" "$S" \
	'401|auth|denied|refus|credential|token' plain_http
creds "$REG"
: >"$T/tokens.log"
reads "Bearer" "$S" plain_http
at_most "$(grep -c '"GET"\|"POST"' "$T/tokens.log")" 1 \
	"Bearer: one token for all that was read"
like "$(cat "$T/tokens.log")" 'repository:a/b:pull"' "Bearer: scope is pull"

# Anonymous tokens, as Docker Hub gives them.
start_srv anon --oci "$IMAGES" --auth bearer --anonymous
no_creds
reads "Bearer, anonymous" "$SRV_ADDR/x/y:small-gz1" plain_http
# Tokens that end while in use: refreshed, the reader sees nothing.
start_srv short --oci "$IMAGES" --auth bearer --user alice:s3cret --token-uses 3
creds "$SRV_ADDR"
reads "Bearer, tokens of three requests" "$SRV_ADDR/x/y:small-gz1" \
	plain_http,nobackground,noprefetch
at_most 2 "$(srv_count path=/token)" "Bearer: tokens were renewed"
start_srv old --oci "$IMAGES" --auth bearer --user alice:s3cret \
	--token-expires 1 --token-says 300
creds "$SRV_ADDR"
STATE=$T/state-old
ok "Bearer, a token that lies about its life: mounts" mount_esgz \
	"$SRV_ADDR/x/y:small-gz1" "$M" plain_http,layer=2,nobackground,noprefetch
expired() { [ "$(now_ms)" -gt $((born + 1500)) ]; }
born=$(now_ms)
wait_for 5 expired
ok "Bearer, a token that lies about its life: reads" treecmp "$M" "$B"
ok "unmounts" umount_esgz "$M"
start_srv ident --oci "$IMAGES" --auth bearer --identity r3fresh
printf '{"auths":{"%s":{"identitytoken":"r3fresh","auth":"%s"}}}' "$SRV_ADDR" \
	"$(printf 00000000-0000-0000-0000-000000000000: | base64)" \
	>"$HOME/.docker/config.json"
reads "Bearer, identitytoken" "$SRV_ADDR/x/y:small-gz1" plain_http

# Credentials do not travel to where a redirect leads (the CDN answers 400).
start_srv redir --oci "$IMAGES" --auth basic --user alice:s3cret
creds "$SRV_ADDR"
srv_fault '{"kind":"redirect","path":"/blobs/"}'
reads "redirects" "$SRV_ADDR/x/y:small-gz1" plain_http
is "$(srv_count 'port=cdn&auth=basic')" 0 "redirects: no credentials leak"

### TLS ###
start_registry auth=htpasswd tls
push "$IMAGES:small-gz1" a/b:v1 "${CREDS[@]}" || bail push
S=localhost:${REG#*:}/a/b:v1
creds "localhost:${REG#*:}"
# ca [LINE]: hosts.toml with that line, for a shared estargzd.
ca() {
	local d=$T/certs.d/localhost:${REG#*:}
	mkdir -p "$d"
	cat >"$d/hosts.toml" <<-END
	server = "https://localhost:${REG#*:}"
	[host."https://localhost:${REG#*:}"]
	  capabilities = ["pull", "resolve"]
	  $1
	END
	estargzd_config "$T/certs.d"
	start_estargzd "tls$TAP_N" --config "$T/estargzd.toml"
}
ca ""
refused "TLS, an unknown CA" "$S" 'certificate|CA|SSL|TLS' layer=2
stop_estargzd
ca "ca = \"$T/tls/ca.crt\""
reads "TLS, the CA in hosts.toml" "$S"
stop_estargzd
cp "$T/tls/ca.crt" "$T/certs.d/localhost:${REG#*:}/ca.crt"
ca 'ca = "ca.crt"'
reads "TLS, the CA beside hosts.toml" "$S"
stop_estargzd
ca "skip_verify = true"
reads "TLS, skip_verify" "$S"
stop_estargzd
no_leaks
done_testing

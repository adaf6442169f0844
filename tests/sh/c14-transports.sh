#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# estargz convert from and to every kind of place an image can be in.
. "${top_srcdir:-.}/tests/lib.sh"
. "${top_srcdir:-.}/tests/convert.sh"
requires_convert
requires_cmd docker-registry htpasswd openssl
images small-src

mkdir -p "$T/t/d"
head -c 300000 /dev/urandom >"$T/t/d/f"
tar -C "$T/t" -cf "$T/t.tar" d
mkimage "$T/src:x" "gzip:$T/t.tar,none:$LAYERS/wh.tar,gzip:$T/t.tar"
m=$MADE
start_registry
R=$REG
push "$T/src:x" lab/src:x || bail push
skopeo copy -q "oci:$T/src:x" "oci-archive:$T/src.oci.tar:x" || bail skopeo
skopeo copy -q "oci:$T/src:x" "docker-archive:$T/src.docker.tar:lab/src:x" ||
	bail skopeo

# in_layout PLACE: what is there, as tag x of a layout, $P, unchanged
N=0
in_layout() {
	P=$T/p$((N += 1))
	skopeo copy -q --preserve-digests --src-tls-verify=false "$1" "oci:$P:x" \
		2>"$T/skopeo.err" || { diag_file "$T/skopeo.err"; return 1; }
}

want=
for from in "docker://$R/lab/src:x" "docker://$R/lab/src@$m" "oci:$T/src:x" \
	"oci-archive:$T/src.oci.tar:x" "oci-archive:$T/src.oci.tar" \
	"docker-archive:$T/src.docker.tar" \
	"docker-archive:$T/src.docker.tar:lab/src:x"; do
	f=${from%%:*}
	for to in "docker://$R/lab/dst:$f" "oci:$T/dst:$f" \
		"oci-archive:$T/dst.$f.tar:x" \
		"docker-archive:$T/dst.$f.docker.tar:lab/dst:x"; do
		rm -f "$T/dst.$f".*
		converts "${from/$T/} to ${to/$T/}" --plain-http "$from" "$to" ||
			continue
		in_layout "$to" || fail "skopeo reads it"
		got=$(root "$P" x)
		case $to in
		docker-archive:*)
			is "$(diff_ids "$P" "$got" | xargs)" "$ids" \
				"... has the same layers"
			continue
			;;
		esac
		is "$got" "$CONVERTED" "... is what was said"
		ids=$(diff_ids "$P" "$got" | xargs)
		case $from in
		docker-archive:*) ;;
		*)
			want=${want:-$got}
			is "$got" "$want" "... and is the same from everywhere"
			;;
		esac
		ok "... and right" is_esgz "$P" "$got"
	done
done

### docker's media types ###
skopeo copy -q --format v2s2 --dest-tls-verify=false "oci:$T/src:x" \
	"docker://$R/lab/src:docker" || bail skopeo
types() {
	skopeo inspect --raw --tls-verify=false "docker://$R/lab/dst:$1" |
		jq -r '[.. | .mediaType? // empty] | unique | join(" ")'
}
converts "an image of docker's" --plain-http "docker://$R/lab/src:docker" \
	"docker://$R/lab/dst:d"
is "$(types d)" \
	"application/vnd.docker.container.image.v1+json application/vnd.docker.distribution.manifest.v2+json application/vnd.docker.image.rootfs.diff.tar.gzip" \
	"keeps its media types"
converts "--oci" --oci --plain-http "docker://$R/lab/src:docker" \
	"docker://$R/lab/dst:o"
is "$(types o)" \
	"application/vnd.oci.image.config.v1+json application/vnd.oci.image.layer.v1.tar+gzip application/vnd.oci.image.manifest.v1+json" \
	"gives it those of OCI"

### Registries that want to know who asks ###
start_registry auth=htpasswd tls
mkdir -p "$T/certs.d/$REG"
cat >"$T/certs.d/$REG/hosts.toml" <<END
server = "https://$REG"
ca = "$T/tls/ca.crt"
END
refuses "a registry that is not let in to" '401|[Uu]nauthori|credential' \
	--hosts-dir "$T/certs.d" "oci:$T/src:x" "docker://$REG/lab/img:x"
printf '{"auths":{"%s":{"auth":"%s"}}}' "$REG" \
	"$(printf alice:s3cret | base64)" >"$T/config.json"
converts "with credentials and an authority of its own" \
	--hosts-dir "$T/certs.d" --docker-config "$T/config.json" \
	"oci:$T/src:x" "docker://$REG/lab/img:x"
for o in "--docker-config=$T/none" "--hosts-dir=$T/none"; do
	like "$("$ESTARGZ" convert "$o" "oci:$T/src:x" "oci:$T/no:x" 2>&1)" \
		"$T/none: No such file or directory\$" "${o%%=*} that is not there"
done
converts "and from there" --hosts-dir "$T/certs.d" \
	--docker-config "$T/config.json" "docker://$REG/lab/img:x" "oci:$T/auth:x"
start_registry auth=token
printf '{"auths":{"%s":{"auth":"%s"}}}' "$REG" \
	"$(printf alice:s3cret | base64)" >"$T/config.json"
converts "with tokens" --plain-http --docker-config "$T/config.json" \
	"oci:$T/src:x" "docker://$REG/lab/img:x"

### What is there is not sent again ###
REG=$R
log=$T/registry1.log
uploads() { grep -cE '"(PUT|PATCH) [^"]*/blobs/uploads' "$log"; }
before=$(uploads)
converts "the same once more" --plain-http "oci:$T/src:x" \
	"docker://$R/lab/dst:again"
is "$(uploads)" "$before" "uploads nothing"
converts "to another repository, layers kept" --plain-http --reuse \
	"docker://$R/lab/dst:again" "docker://$R/lab/other:x"
is "$CONVERTED" "$want" "is the same"
is "$(grep -c '"PATCH [^"]*lab/other/blobs/uploads' "$log")" 0 \
	"mounts the layers"

### Registries that take no pushes ###
start_srv lab --push "$T/lab"
to=docker://$SRV_ADDR/lab/img:x
srv_fault '{"kind":"status","status":405,"method":"POST","count":-1}'
refuses "a registry that is read-only" 'begin an upload: status 405.*read-only' \
	--plain-http "oci:$T/src:x" "$to"
is "$(srv_count method=POST),$(srv_count method=HEAD)" 1,0 \
	"... which is known before anything else"
srv_reset
srv_fault '{"kind":"status","status":403,"method":"POST","count":-1}'
refuses "one that does not want us to" 'begin an upload: status 403' \
	--plain-http "oci:$T/src:x" "$to"
srv_reset
srv_fault '{"kind":"status","status":503,"method":"POST","count":1}'
converts "one that is in trouble at first" --plain-http "oci:$T/src:x" "$to"
is "$(srv_count 'method=DELETE&path=uploads')" 1 \
	"the upload that is begun to see that is taken back"
done_testing

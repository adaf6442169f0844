#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# As it is installed: containerd, the snapshotter and estargzd as units of a
# systemd, a container of a lazy image, and what administrators do to units.
. "${top_srcdir:-.}/tests/lib.sh"
. "$top_srcdir/tests/systemd.sh"
. "$top_srcdir/tests/containerd.sh"
requires_mount
requires_systemd
requires_cmd containerd ctr ctr-remote runc
[ -x "$ESTARGZ_SNAPSHOTTER" ] || plan_skip "estargz-snapshotter is not built"
images debian

D=$T/dest
env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL make -s -C "$top_builddir" install \
	DESTDIR="$D" >"$T/install.log" 2>&1 || bail "make install"
mkdir -p "$D/etc/containerd"
cp "$top_srcdir/contrib/containerd/containerd-${CTD_OWN%%.*}.toml" \
	"$D/etc/containerd/config.toml"
# What nobody reads stays away, so that there is something to wait for; and each
# layer has its process, also the complete ones.
mkdir -p "$D/etc/estargz"
printf '[layers]\nbackground = false\nprefetch = false\nnative = false\n' \
	>"$D/etc/estargz/config.toml"
mkdir -p "$T/var/containerd"
start_srv srv --oci "$IMAGES"
R=$SRV_ADDR/lab/img:debian
boot() {
	start_systemd "$D" && return
	diag_file "$T/systemd.log"
	bail "systemd did not start"
}

ctr() { inside timeout 120 ctr "$@"; }
# python MODULE: a container that runs reads what it has not read before.
EXEC_N=0
python() {
	EXEC_N=$((EXEC_N + 1))
	# By its status: ctr may lose what such a short one prints.
	ctr task exec --exec-id "e$EXEC_N" c1 /usr/bin/python3 \
		-c "import $1, sys; sys.exit(6 * 7)"
	[ $? = 42 ]
}
# The processes that serve layers, as they are called inside; only the monitors.
monitors() {
	inside find /run/estargz/layers -name '*.sup' -printf '%f\n' |
		sed 's/\.sup//' | sort -n
}
n_mounts() { inside findmnt -rn -o TARGET | grep -c '^/var/lib/estargz/m/'; }
scopes() {
	inside systemctl list-units --plain --no-legend --state=active \
		'estargz-layer-*.scope' | cut -d ' ' -f 1
}
n_scopes_is() { [ "$(scopes | wc -l)" = "$1" ]; }
logs() { inside journalctl -q --no-pager -u estargz-snapshotter -n 20; }

### Start ###

boot
ok "units are enabled" inside systemctl enable estargzd.socket \
	estargz-snapshotter.service
ok "they start" inside systemctl start estargzd.socket estargz-snapshotter
ok "containerd starts" inside systemctl start containerd
like "$(inside systemctl show -P After containerd)" \
	'estargz-snapshotter.service' "... after the snapshotter"
P=$(main_pid estargz-snapshotter)
ok "the snapshotter is in the mount namespace of all" shares_mounts "$P"
is "$(inside stat -c '%F %a %U' /run/estargz/snapshotter.sock)" \
	"socket 600 root" "its socket is for root"

ok "an image is pulled" inside timeout 120 ctr-remote image rpull \
	--plain-http --snapshotter estargz "$R"
n=$(jq -r '[.layers[].digest] | unique | length' \
	<"$(manifest_of "$IMAGES" debian)")
is "$(n_mounts)" "$n" "its layers are mounted" || diag "$(logs)"
is "$(monitors | wc -l)" "$n" "each has a process"
ok "each has a scope" wait_for 10 n_scopes_is "$n"
# Without CPU shares: where systemd knows control groups of version 2 alone, the
# controller may be with version 1.
ok "a container runs" ctr run --cpu-shares 0 -d --snapshotter estargz "$R" c1 sleep inf
ok "... and reads" python os

### What is done to units ###

M=$(monitors)
kill_inside "$P"
ok "snapshotter killed: it is started again" \
	wait_for 10 restarted estargz-snapshotter "$P"
ok "... the container reads on" python json
ok "... another starts" ctr run --cpu-shares 0 --rm --snapshotter estargz "$R" c2 /bin/true
is "$(monitors)" "$M" "... nothing was mounted anew"

ok "snapshotter restarted" inside systemctl restart estargz-snapshotter
ok "... the container reads on" python decimal
is "$(monitors)" "$M" "... nothing was mounted anew"

ok "snapshotter stopped" inside systemctl stop estargz-snapshotter.service \
	estargz-snapshotter.socket
ok "... the container reads on" python email.parser
ok "... and it starts with its socket" \
	inside systemctl start estargz-snapshotter.socket
# containerd does not connect at once to what it has not found.
ok "... when it is called" \
	wait_for 60 ctr snapshot --snapshotter estargz ls
ok "... another container starts" \
	ctr run --cpu-shares 0 --rm --snapshotter estargz "$R" c2 /bin/true
is "$(monitors)" "$M" "... nothing was mounted anew"

P=$(main_pid estargzd)
ok "... all in the mount namespace of all" shares_mounts "$P"
kill_inside "$P"
ok "estargzd killed: the container reads on" python sqlite3
ok "estargzd restarted" inside systemctl restart estargzd
ok "... the container reads on" python http.server

kill_inside "$(tail -n 1 <<<"$M")"
ok "monitor killed: the container reads on" python unittest
ok "... and has a scope" wait_for 10 n_scopes_is "$n"

ok "containerd restarted" inside systemctl restart containerd
ok "... the container reads on" python xml.dom.minidom

### The machine ###

stop_pid "$SRV_PID"
stop_systemd
boot
ok "after a power cut: units start" inside systemctl start estargzd.socket \
	estargz-snapshotter containerd
ok "... the container starts, without a registry" ctr task start -d c1
ok "... and reads what it has read" python json
is "$(n_mounts)" "$n" "... its layers are mounted"

### End ###

ok "the container ends" ctr task kill -s 9 c1
wait_for 10 eval 'ctr task ls | grep -q "c1.*STOPPED"'
ok "... goes" ctr task rm c1
ok "... with its snapshot" ctr container rm c1
ok "the image goes" ctr image rm --sync "$R"
no_layers() { [ "$(n_mounts)" = 0 ] && n_scopes_is 0; }
ok "and with it mounts and scopes" wait_for 20 no_layers ||
	diag "$(scopes)" "$(logs)"
stop_systemd
done_testing

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Two mounts of one layer share its cache, and neither can hurt the other; a
# mount whose front or monitor dies, or that is replaced, takes nothing along.
. "${top_srcdir:-.}/tests/lib.sh"
requires_mount
requires_cmd jq curl

A=$T/a
B=$T/b
mkdir -p "$T/f"
mkesgz make few-files "$T/f/few" >"$T/few.json"
D=$(jget "$T/few.json" .toc_digest)
mkesgz make chunk-40m "$T/f/large" >"$T/large.json"
L=$(jget "$T/large.json" .toc_digest)
start_srv srv --files "$T/f"
LAZY=nobackground,noprefetch

### What one brings the other has ###
srv_reset
ok "A mounts" mount_esgz "$SRV_URL/f/few" "$A" "$LAZY,toc_digest=$D"
ok "B mounts the same layer from elsewhere" \
	mount_esgz "$T/f/few" "$B" "$LAZY,toc_digest=$D"
is "$(find "$STATE/layers" -name layer.erofs | wc -l)" 1 "one cache for both"
srv_fault '{"kind":"stall","after":1000}'
# O_DIRECT: the kernel does not try again by itself.
background direct dd if="$A/f3" bs=1M iflag=direct status=none
r=$BG_PID
stalled() { [ "$(srv_count fault=stall)" -ge 1 ]; }
ok "A's read waits for its server" wait_for 20 stalled
ok "B reads all" treecmp "$B" "$T/f/few"
wait "$r"
is "$?" 0 "A's read is answered by what B brought"
is "$(sha256sum <"$T/direct.log")" "$(sha256sum <"$B/f3")" "and is right"
ok "A reads all, its server stalling" treecmp "$A" "$T/f/few"

### Neither goes down with the other ###
background bread "$PYTHON" "$TOOLS/treecmp.py" --jobs 2 --order random \
	"$B" "$T/f/few"
r=$BG_PID
a_monitor() {
	local p
	for p in $(monitor_pids); do
		tr '\0' ' ' <"/proc/$p/cmdline" | grep -qF "$A" && echo "$p"
	done
}
kill -9 $(a_monitor)
ok "A's monitor is killed: B's reader does not notice" wait "$r"
srv_clear
ok "A mounts again over what is left" \
	mount_esgz "$SRV_URL/f/few" "$A" "$LAZY,toc_digest=$D"
ok "and reads all" treecmp "$A" "$T/f/few"
ok "A unmounts" umount_esgz "$A"
ok "B reads on" treecmp "$B" "$T/f/few"
ok "B unmounts" umount_esgz "$B"
no_leaks "both leave nothing"

### Large chunks go into their place before they are verified ###
STATE=$T/state-large
srv_reset
ok "A mounts large chunks" \
	mount_esgz "$SRV_URL/f/large" "$A" "$LAZY,toc_digest=$L"
ok "B mounts them too" mount_esgz "$T/f/large" "$B" "$LAZY,toc_digest=$L"
srv_fault '{"kind":"flip","every":100000}'
background abad "$PYTHON" "$TOOLS/treecmp.py" --allow-eio "$A" "$T/f/large"
r=$BG_PID
ok "B reads right while A is given wrong bytes" treecmp "$B" "$T/f/large"
wait "$r" || true
srv_clear
echo 3 >/proc/sys/vm/drop_caches
ok "what is in the cache is right" treecmp "$B" "$T/f/large"
ok "A unmounts" umount_esgz "$A"
ok "B unmounts" umount_esgz "$B"
no_leaks "large: leaves nothing"

### A front that dies leaves no mount behind ###
STATE=$T/state-front
srv_reset
srv_fault '{"kind":"stall","after":1000}'
mkdir -p "$A"
background front "$MOUNT_ESTARGZ" "$SRV_URL/f/few" "$A" \
	-o "$(mount_opts "$LAZY,toc_digest=$D")"
r=$BG_PID
asked() { [ "$(srv_count)" -ge 1 ]; }
ok "a mount is on its way" wait_for 20 asked
kill -9 "$r"
srv_clear
gone() { no_product_procs && ! is_mounted "$A"; }
ok "its front is killed: no mount and no process stays" wait_for 30 gone
ok "the next one works" \
	mount_esgz "$SRV_URL/f/few" "$A" "$LAZY,toc_digest=$D"
ok "and reads" treecmp "$A" "$T/f/few"

### SIGTERM takes away what is the monitor's own ###
exec 9<"$A/f1"
mon=$(monitor_pids)
umount -l "$A"
mount -t tmpfs none "$A"
kill -TERM $mon
exec 9<&-
ok "the monitor ends with its session" wait_for 20 no_product_procs
ok "what was mounted since is still there" is_mounted "$A"
umount "$A"
no_leaks "leaves nothing"

### An image, for everybody ###
images small
STATE=$T/state-image
as_user() { setpriv --reuid 1000 --regid 1000 --clear-groups "$@"; }
chmod 755 "$T"
mkdir -p "$A"
chmod 755 "$A"
ok "an image mounts" mount_esgz "oci:$IMAGES:small" "$A" nobackground
is "$(stat -c %a "$A")" 755 "its root is open to all"
ok "a user lists it" as_user ls "$A"
ok "a user reads it" as_user cat "$A/etc/passwd"
want=$(jq -r '.layers[].digest' <"$(manifest_of "$IMAGES" small)" | sort -u)
is "$("$ESTARGZ" status --json | jq -r --arg t "$A" \
	'.[] | select(.target == $t) | .digest' | sort -u)" "$want" \
	"status has each of its layers"
n=$("$ESTARGZ" status --json | jq -r --arg t "$A" \
	'[.[] | select(.target == $t) | .layer] | max')
is "$("$ESTARGZ" status --json | jq -r --arg t "$A" --argjson n "$n" \
	'.[] | select(.target == $t and .layer == $n) | .digest')" \
	"$(layer_digest "$IMAGES" small "$n")" "numbered as layer= does"
not_ok "status is for root" as_user "$ESTARGZ" status
kill -9 $(monitor_pids)
wait_for 10 no_product_procs
ok "an image whose monitors were killed: mounts again" \
	mount_esgz "oci:$IMAGES:small" "$A" nobackground
is "$(grep -c " $A " /proc/self/mountinfo)" 1 "once"
ok "reads" cat "$A/etc/passwd"
ok "unmounts" umount_esgz "$A"
no_leaks "an image leaves nothing"
done_testing

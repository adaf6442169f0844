#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What is asked of the server, counted there: 1 request to mount a layer of a
# known image, none for the second mount, each byte once.
. "${top_srcdir:-.}/tests/lib.sh"
requires_mount
requires_cmd jq curl
images debian small-gz1 small-landmark

M=$T/m
mkdir -p "$T/f"
mkesgz make one-file "$T/f/one" >"$T/one.json"
start_srv srv --oci "$IMAGES" --files "$T/f"
start_estargzd
LAZY=plain_http,nobackground,noprefetch
REF=$SRV_ADDR/lab/img@sha256:$(basename "$(manifest_of "$IMAGES" debian)")

# Connection, token and manifest are there after the first layer.
STATE=$T/state1
mount_esgz "$REF" "$M" "$LAZY,layer=2" || fail "first mount"
umount_esgz "$M"
srv_reset
ok "a layer of 10,000 files mounts" mount_esgz "$REF" "$M" "$LAZY,layer=0"
is "$(srv_count 'path=/blobs/')" 1 "one request for its blob"
at_most "$(srv_count)" 2 "at most 2 requests in all"
at_most "$(srv_ctl "$SRV_URL/_ctl/sent")" 8388608 "at most 8 MiB came"
srv_ctl "$SRV_URL/_ctl/log" | jq -c '[.method,.path,.range,.status,.sent]' |
	sed 's/^/# /'
srv_reset
ok "find" find "$M" -printf '%p %m %s\n'
is "$(srv_count)" 0 "names and attributes need no request"
ok "unmounts" umount_esgz "$M"
srv_reset
ok "mounts a second time" mount_esgz "$REF" "$M" "$LAZY,layer=0"
is "$(srv_count)" 0 "a second mount needs no request"
ok "unmounts" umount_esgz "$M"
srv_reset
ok "by tag, mounts" mount_esgz "$SRV_ADDR/lab/img:debian" "$M" "$LAZY,layer=0"
is "$(srv_count 'path=/blobs/')" 0 "by tag: no request for the blob"
at_most "$(srv_count)" 1 "by tag: at most the manifest is asked for"
ok "unmounts" umount_esgz "$M"

# The registry is away: a layer that is known still mounts.
srv_fault '{"kind":"drop"}'
if ok "registry down: a known layer mounts" mount_esgz "$REF" "$M" \
		"$LAZY,layer=0"
then
	ok "unmounts" umount_esgz "$M"
fi
srv_clear

# One blob at a URL.
D=$(jget "$T/one.json" .toc_digest)
STATE=$T/state2
srv_reset
ok "a URL mounts" mount_esgz "$SRV_URL/f/one" "$M" "$LAZY,toc_digest=$D"
at_most "$(srv_count)" 1 "a URL: one request"
N0=$(srv_count)
pids=()
for i in {1..16}; do
	head -c 4096 "$M/data" >"$T/part$i" &
	pids+=($!)
done
wait "${pids[@]}"
is "$(cat "$T"/part* | sha256sum)" \
	"$(for i in {1..16}; do cat "$T/part1"; done | sha256sum)" \
	"16 readers of one chunk get the same"
at_most $(($(srv_count) - N0)) 1 "and cost one request"
srv_reset
ok "all of it reads" cmp "$M/data" <(
	"$PYTHON" -c 'import random,sys
sys.stdout.buffer.write(random.Random(11).randbytes(1<<20))')
S=$(srv_ctl "$SRV_URL/_ctl/sent")
at_most "$S" $((1048576 + 70000)) "no byte is asked for twice ($S)"
at_most "$(srv_count)" 16 "neighbours share requests ($(srv_count))"
srv_reset
ok "reads again" cat "$M/data"
is "$(srv_count)" 0 "what is cached is not asked for"
ok "unmounts" umount_esgz "$M"
srv_fault '{"kind":"drop"}'
ok "server down: mounts" mount_esgz "$SRV_URL/f/one" "$M" "$LAZY,toc_digest=$D"
ok "server down: reads" cat "$M/data"
ok "unmounts" umount_esgz "$M"
srv_clear

# How much of its end is asked for.
STATE=$T/state-tail
srv_reset
ONE=$T/f/one
TAIL=$(($(stat -c %s "$ONE") - 0x$(tail -c 51 "$ONE" | strings |
	sed -n 's/.*\([0-9a-f]\{16\}\)STARGZ.*/\1/p')))
asked() { srv_ctl "$SRV_URL/_ctl/log" | jq -r '.range' | tr '\n' ' '; }
ok "mounts with the length of the tail" \
	mount_esgz "$SRV_URL/f/one" "$M" "$LAZY,toc_digest=$D,tail=$TAIL"
is "$(asked)" "bytes=$(($(stat -c %s "$ONE") - TAIL))-$(($(stat -c %s "$ONE") - 1)) " \
	"which is one request, of so much"
ok "unmounts" umount_esgz "$M"
STATE=$T/state-tail2
srv_reset
ok "mounts with a tail that is too short" \
	mount_esgz "$SRV_URL/f/one" "$M" "$LAZY,toc_digest=$D,tail=1"
is "$(asked | wc -w)" 2 "which is two"
ok "unmounts" umount_esgz "$M"

# In the background the layer becomes complete.
STATE=$T/state3
srv_reset
IMG=$SRV_ADDR/lab/img:small-gz1
SIZE=$(jq '.layers[0].size' <"$(manifest_of "$IMAGES" small-gz1)")
ok "mounts with background" mount_esgz "$IMG" "$M" plain_http,layer=0
came() { [ "$(srv_ctl "$SRV_URL/_ctl/sent?path=/blobs/")" -ge $((SIZE * 98 / 100)) ]; }
ok "the whole blob comes by itself" wait_for 60 came
# status_is TAG LAYER CONDITION: of this mount, and not of one that was here
# before and whose process has not ended yet.
status_is() {
	"$ESTARGZ" status --json | jq -e --arg t "$M" \
		--arg d "$(layer_digest "$IMAGES" "$1" "$2")" \
		"any(.[]; .target == \$t and .digest == \$d and $3)"
}
if [ -x "$ESTARGZ" ]; then
	ok "estargz status says that it is complete" wait_for 60 \
		status_is small-gz1 0 '.state == "complete"'
else
	skip "estargz status" "estargz is not built"
fi
srv_fault '{"kind":"drop"}'
ok "server down: all of it reads" treecmp --jobs 4 "$M" \
	"$(layer_blob "$IMAGES" small-gz1 0)"
at_most "$(srv_ctl "$SRV_URL/_ctl/sent?path=/blobs/")" $((SIZE * 102 / 100)) \
	"nothing came twice"
ok "unmounts" umount_esgz "$M"
srv_clear

# What is before the landmark comes first, without being read.
STATE=$T/state4
srv_reset
B=$(layer_blob "$IMAGES" small-landmark 2)
ok "mounts with prefetch" mount_esgz "$SRV_ADDR/lab/img:small-landmark" "$M" \
	plain_http,nobackground,layer=2
# The file has 9,002,862 bytes of the blob; what the tail brings beside them is
# less than the smallest of its chunks.
ok "prefetch fetches the prioritised files" wait_for 30 \
	status_is small-landmark 2 '.bytes_present >= 9000000'
srv_fault '{"kind":"drop","skip":0}'
ok "a prioritised file reads with the server down" wait_for 20 \
	cat "$M/random9M"
ok "unmounts" umount_esgz "$M"
srv_clear
stop_estargzd
no_leaks
done_testing

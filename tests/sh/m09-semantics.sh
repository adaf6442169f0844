#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What a file system must do beside showing the right tree: inode numbers,
# statfs, errors, seeks, mmap, interrupts, deadlines.
. "${top_srcdir:-.}/tests/lib.sh"
requires_mount
requires_cmd jq curl
images small-gz1

M=$T/m
B=$(layer_blob "$IMAGES" small-gz1 2)
D=$(layer_toc "$IMAGES" small-gz1 2)
mkdir -p "$T/f"
cp "$B" "$T/f/b"
start_srv srv --files "$T/f"
LAZY=nobackground,noprefetch,toc_digest=$D

ok "mounts" mount_esgz "$SRV_URL/f/b" "$M" "$LAZY"
inos() { (cd "$M" && find . -printf '%i %n %p\0' | sort -z -k 3); }
inos >"$T/i1"
is "$(inos | sha256sum)" "$(sha256sum <"$T/i1")" "inode numbers stay"
echo 2 2>/dev/null >/proc/sys/vm/drop_caches
is "$(inos | sha256sum)" "$(sha256sum <"$T/i1")" \
	"inode numbers stay when the kernel forgets"
is "$(stat -c %i "$M/a/b/target")" "$(stat -c %i "$M/c/d/link1")" \
	"hard links share one"
is "$(stat -c %h "$M/link0")" 3 "link count of a file"
is "$(stat -c %h "$M/names")" $((2 + $(find "$M/names" -mindepth 1 \
	-maxdepth 1 -type d | wc -l))) "link count of a directory"

# statfs
read -r bs blocks free files ffree len < <(stat -f -c '%S %b %f %c %d %l' "$M")
is "$bs" 4096 "statfs: block size"
is "$len" 255 "statfs: name length"
at_most 22000000 $((bs * blocks)) "statfs: blocks are real ($blocks)"
is "$free" 0 "statfs: nothing is free"
at_most "$(cut -z -d ' ' -f 1 "$T/i1" | sort -zu | tr -cd '\0' | wc -c)" \
	"$files" "statfs: inodes are real ($files)"
is "$ffree" 0 "statfs: no inode is free"
ok "df" df "$M"

# Errors
err_of() {
	"$PYTHON" - "$@" <<'END'
import errno, os, sys
try:
    exec(sys.argv[1], {"os": os, "p": sys.argv[2]})
    print("none")
except OSError as e:
    print(errno.errorcode[e.errno])
END
}
is "$(err_of 'os.stat(p)' "$M/nothing")" ENOENT "ENOENT"
is "$(err_of 'os.stat(p)' "$M/nothing")" ENOENT "ENOENT again"
is "$(err_of 'os.stat(p)' "$M/page/x")" ENOTDIR "ENOTDIR"
is "$(err_of 'os.listdir(p)' "$M/page")" ENOTDIR "ENOTDIR of readdir"
is "$(err_of 'open(p, "rb")' "$M/a")" EISDIR "EISDIR" ||
	true
is "$(err_of 'os.readlink(p)' "$M/page")" EINVAL "EINVAL of readlink"
is "$(err_of 'os.stat(p + "/" + "n" * 256)' "$M")" ENAMETOOLONG ENAMETOOLONG
for c in 'open(p + "/new", "w")' 'os.mkdir(p + "/new")' \
	'os.unlink(p + "/page")' 'os.rename(p + "/page", p + "/x")' \
	'os.chmod(p + "/page", 0)' 'os.chown(p + "/page", 1, 1)' \
	'os.utime(p + "/page")' 'os.truncate(p + "/page", 0)' \
	'os.link(p + "/page", p + "/l")' 'os.symlink("x", p + "/l")' \
	'os.setxattr(p + "/page", "user.x", b"x")' \
	'os.rmdir(p + "/a")' 'os.mkfifo(p + "/ff")'; do
	is "$(err_of "$c" "$M")" EROFS "EROFS: $c"
done
is "$(err_of 'os.getxattr(p, "user.none")' "$M/page")" ENODATA "ENODATA"
is "$(err_of 'os.getxattr(p, "user.none")' "$M/xattr/binary")" ENODATA \
	"ENODATA where there are others"
is "$(getfattr -n trusted.overlay.opaque "$M/xattr/evil" 2>&1 |
	grep -c 'No such attribute')" 1 "an image's trusted.overlay is not there"

# Reading
is "$(err_of 'os.lseek(os.open(p, 0), -1, 0)' "$M/page")" EINVAL "seek before 0"
is "$(tail -c +9000002 "$M/random9M" | wc -c)" 0 "nothing past the end"
is "$(dd if="$M/random9M" bs=1 skip=9000000 2>/dev/null | wc -c)" 1 "last byte"
ok "mmap" "$PYTHON" - "$M/random9M" <(tar -xOzf "$B" ./random9M 2>/dev/null ||
	tar -xOzf "$B" random9M) <<'END'
import mmap, random, sys
want = open(sys.argv[2], "rb").read()
with open(sys.argv[1], "rb") as f:
    m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)
    r = random.Random(1)
    for _ in range(2000):
        a = r.randrange(len(want))
        assert m[a:a + 50] == want[a:a + 50], a
    assert m[:] == want
END
ok "O_DIRECT" dd if="$M/zero12M" of=/dev/null iflag=direct bs=1M
cp "$M/xattr/capable" "$T/capable" && ok "a program is executed" \
	"$M/xattr/capable"
ok "unmounts" umount_esgz "$M"
ok "mounts again" mount_esgz "$SRV_URL/f/b" "$M" "$LAZY"
is "$(inos | sha256sum)" "$(sha256sum <"$T/i1")" \
	"inode numbers are the same after a remount"
ok "unmounts" umount_esgz "$M"
STATE=$T/state-other
ok "mounts with another state" mount_esgz "$SRV_URL/f/b" "$M" "$LAZY"
is "$(inos | sha256sum)" "$(sha256sum <"$T/i1")" \
	"inode numbers are the same on another machine"

# d_type and . and ..
ok "readdir tells types and all names once" "$PYTHON" - "$M/many" <<'END'
import os, sys
e = list(os.scandir(sys.argv[1]))
assert len(e) == 300 == len({x.name for x in e})
assert all(x.is_file(follow_symlinks=False) for x in e)
END
is "$(ls -f "$M/many" | head -n 2 | tr '\n' ' ')" ". .. " "dot and dot-dot"

# Signals: a blocked read can be killed, and interrupted.
srv_fault '{"kind":"stall","after":0}'
blocked() { [ "$(srv_count fault=stall)" -ge "$1" ]; }
for sig in KILL INT; do
	n=$(($(srv_count fault=stall) + 1))
	f=random9M
	[ $sig = KILL ] || f=page
	setsid "$PYTHON" -c 'import signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
open(sys.argv[1], "rb").read(10)' "$M/$f" &
	r=$!
	PIDS+=("$r")
	wait_for 20 blocked "$n" || diag "the read did not reach the server"
	kill -$sig $r
	ok "SIG$sig ends a blocked read" wait_for 30 pid_gone $r
	wait $r 2>/dev/null
done
srv_clear
# Those that do not kill must not be seen by who faults on a mapped page.
srv_fault '{"kind":"delay","ms":500}'
ok "a page fault outlives signals that have a handler" "$PYTHON" - "$M/random9M" <<'END'
import mmap, signal, sys
signal.signal(signal.SIGALRM, lambda *_: None)
with open(sys.argv[1], "rb") as f:
    m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)
signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
m[5000000]
signal.setitimer(signal.ITIMER_REAL, 0)
END
srv_clear
ok "and the file reads afterwards" treecmp "$M" "$B"
ok "unmounts" umount_esgz "$M"

# Deadlines.
STATE=$T/state-deadline
srv_reset
ok "mounts with read_timeout=2" mount_esgz "$SRV_URL/f/b" "$M" \
	"$LAZY,read_timeout=2"
srv_fault '{"kind":"stall","after":0}'
t0=$(now_ms)
is "$(err_of 'open(p, "rb").read()' "$M/page")" EIO "a read gives up with EIO"
t=$(($(now_ms) - t0))
at_most 1900 $t "not before its time ($t ms)"
at_most $t 60000 "and long before the default"
ok "metadata is served meanwhile" find "$M" -ls
srv_clear
ok "and recovers" wait_for 30 treecmp "$M" "$B"
ok "unmounts" umount_esgz "$M"

# umount while reads are blocked.
STATE=$T/state-umount
srv_reset
ok "mounts" mount_esgz "$SRV_URL/f/b" "$M" "$LAZY"
srv_fault '{"kind":"stall","after":0}'
cat "$M/page" >/dev/null 2>&1 &
r=$!
PIDS+=("$r")
wait_for 20 blocked 1
ok "umount -l with a blocked read" umount -l "$M"
srv_clear
ok "the reader ends" wait_for 30 pid_gone $r
wait $r 2>/dev/null

# Not EOPNOTSUPP: containerd's differ takes that for a failure.
STATE=$T/state-none
ok "a layer that has no xattr at all mounts" \
	mount_esgz "oci:$IMAGES:small-gz1" "$M" layer=1
is "$(err_of 'os.getxattr(p, "security.capability")' "$M/etc/hostname")" \
	ENODATA "which is ENODATA too"
is "$(getfattr -d -m - "$M/etc/hostname")" "" "and an empty list"
ok "unmounts" umount_esgz "$M"
no_leaks
done_testing

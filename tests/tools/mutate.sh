# SPDX-License-Identifier: Apache-2.0
# What containers do to their root file system, for any shell and the tools of
# busybox or Debian; run in the image "awkward" by the tests. What it
# prints and what it leaves must not depend on the snapshotter.
# shellcheck shell=sh
exec 2>&1
cd / || exit 1
step() { echo "== $*"; }

step append
echo more >>/etc/passwd
cat /etc/passwd
step overwrite
printf XXXX | dd of=/random9M bs=1 seek=5000000 conv=notrunc status=none
sha256sum /random9M | cut -c1-8
step truncate
: >/page
truncate -s 100 /zero12M
wc -c /page /zero12M
step attributes
chmod 700 /many/f1
chown 12:34 /many/f2
touch -d @1000000000 /many/f3
chmod 1770 /opt/writable
stat -c '%n %a %u %g %Y' /many/f[123] /opt/writable
step rename
mv /many/f4 /many/g4
mv /many/f5 /etc/f5
mv /many/f6 /many/f7
mv /c /c2
mv /opt/merged /opt/moved
ls -l /c2/d /opt/moved | wc -l
cat /many/g4 /etc/f5 /many/f7
cat /many/f6
step links
ln /many/f8 /many/h8
ln /opt/links/a/one /opt/links/a/three
echo x >>/opt/links/a/one
cat /opt/links/a/three /opt/three
stat -c '%n %h' /many/f8 /many/h8 /opt/links/a/one /opt/three
ln -s /many/f9 /many/s9
readlink /many/s9
step unlink
rm /many/f10 /sticky/none
rm -r /time /opt/opaque
ls /time /opt/opaque
step opaque
mkdir /time
echo new >/time/only
rm -r /xattr
mkdir -p /xattr/sub
ls -A /time /xattr
mv /time /time2
mkdir -p /opt/opaque/deep
ls -A /opt/opaque /opt/opaque/deep
step replace
rm -r /opt/links/b
echo file >/opt/links/b
rm /opt/tofile
mkdir /opt/tofile
cat /opt/links/b
step devices
mknod /nodes/new c 1 3
chmod 644 /nodes/null
rm /nodes/fifo
mkfifo /nodes/fifo2
stat -c '%n %F %t %T %a %h' /nodes/*
step programs
cp /bin/inside /opt/copy
chmod 4755 /opt/copy
mv /bin/inside-suid /bin/inside-suid2
chmod 755 /bin/inside-sgid
chown 5:5 /bin/inside-cap
stat -c '%n %a %u %g' /opt/copy /bin/inside-*
step many
for i in 1 2 3 4 5 6 7 8 9; do
	mkdir -p /var/d$i/e
	cp /many/f2* /var/d$i/e
	mv /var/d$i /var/e$i
done
find /var | wc -l
step whole
find / -xdev -type f ! -path '/stargz*' ! -path '/.no.*' | sort | sha256sum

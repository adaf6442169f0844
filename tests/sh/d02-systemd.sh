#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What `make install` installs, and the units in a systemd of their own.
. "${top_srcdir:-.}/tests/lib.sh"
. "$top_srcdir/tests/systemd.sh"
requires_programs
requires_systemd

### What is installed ###

D=$T/dest
ok "make install" env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL \
	make -s -C "$top_builddir" install DESTDIR="$D"
units=$(cd "$D" && find . -name '*.service' -o -name '*.socket' | sort)
sbin=$(dirname "$(cd "$D" && find . -name estargzd -type f)")
prefix=${sbin%/sbin}
is "$(cd "$D/$prefix" && find . ! -type d | sort)" "./bin/estargz
./lib/systemd/system/estargz-snapshotter.service
./lib/systemd/system/estargz-snapshotter.socket
./lib/systemd/system/estargzd.service
./lib/systemd/system/estargzd.socket
./lib/sysusers.d/estargz.conf
./sbin/estargz-snapshotter
./sbin/estargzd
./sbin/estargzfs
./sbin/mount.estargz
./share/bash-completion/completions/estargz
./share/bash-completion/completions/estargz-snapshotter
./share/bash-completion/completions/estargzd
./share/bash-completion/completions/estargzfs
./share/bash-completion/completions/mount.estargz
./share/doc/estargz/containerd/containerd-1.toml
./share/doc/estargz/containerd/containerd-2.toml
./share/doc/estargz/containerd/nerdctl.toml
./share/man/man1/estargz-convert.1
./share/man/man1/estargz-inspect.1
./share/man/man1/estargz-optimize.1
./share/man/man1/estargz-trace.1
./share/man/man1/estargz-verify.1
./share/man/man1/estargz.1
./share/man/man5/estargz.toml.5
./share/man/man8/estargz-snapshotter.8
./share/man/man8/estargzd.8
./share/man/man8/mount.estargz.8" "what is installed"

# A mount namespace of a unit would hide mounts, and hold on to them.
for u in $units; do
	is "$(grep -E '^(Private(Tmp|Devices|Mounts|Users|IPC)|ReadOnlyPaths|Protect(System|Home|Proc|Control|Kernel)[A-Za-z]*|(ReadWrite|Inaccessible|Exec|NoExec)Paths|ProcSubset|DynamicUser|Root(Directory|Image)[A-Za-z]*|Bind[A-Za-z]*Paths|MountFlags|MountAPIVFS|MountImages|ExtensionImages|ExtensionDirectories|TemporaryFileSystem|LogNamespace)=' "$D/$u")" \
		"" "${u##*/} has no option that makes a mount namespace"
done

### In a systemd ###

start_systemd "$D" || {
	diag_file "$T/systemd.log"
	bail "systemd did not start"
}
for u in $units; do
	ok "systemd-analyze verify ${u##*/}" \
		inside systemd-analyze verify --man=no "${u#.}"
done

inside mkdir -p /etc/systemd/system/estargzd.service.d
# As the unit recommends; in the newer systemds, too, this must not make a mount namespace.
inside sh -c 'echo {} >/root/config.json
cat >/etc/systemd/system/estargzd.service.d/credentials.conf' <<'END'
[Service]
LoadCredential=config.json:/root/config.json
Environment=DOCKER_CONFIG=%d
END
ok "daemon-reload" inside systemctl daemon-reload
ok "estargzd.socket" inside systemctl start estargzd.socket
is "$(inside stat -c '%F %a %U' /run/estargz/fetcher.sock)" "socket 600 root" \
	"... is for root"
is "$(inside stat -c '%a %U' /run/estargz)" "755 root" "... in its directory"
ok "estargzd is not started before it is needed" \
	unit_is estargzd.service ActiveState inactive
inside systemctl start estargzd.service
ok "estargzd starts" unit_is estargzd.service ActiveState active
P=$(main_pid estargzd.service)
is "$(inside stat -c %U "/proc/$P")" estargz "... with a user of its own"
ok "... in the mount namespace of all" shares_mounts "$P"
# Oftener than systemd would have it by default.
killed() {
	local i p
	for i in 1 2 3 4 5 6 7 8; do
		p=$(main_pid "$1")
		kill_inside "$p" || return 1
		wait_for 10 restarted "$1" "$p" || return 1
	done
}
ok "... again after every SIGKILL" killed estargzd.service
ok "... and ends" inside systemctl stop estargzd.service

ok "estargz-snapshotter starts" inside systemctl start estargz-snapshotter
ok "... in the mount namespace of all" \
	shares_mounts "$(main_pid estargz-snapshotter)"
ok "... again after every SIGKILL" killed estargz-snapshotter.service
ok "... and ends" inside systemctl stop estargz-snapshotter.service

stop_systemd
done_testing

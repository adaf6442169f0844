# SPDX-License-Identifier: Apache-2.0
# libfs.a: everything but main(), so that tests can reach it.
noinst_LIBRARIES += %D%/libfs.a
%C%_libfs_a_CPPFLAGS = $(AM_CPPFLAGS) $(FUSE3_CFLAGS) $(URING_CFLAGS) \
	$(JSON_CFLAGS) $(SECCOMP_CFLAGS)
%C%_libfs_a_SOURCES = \
	%D%/options.c %D%/options.h \
	%D%/layer.c %D%/layer.h \
	%D%/source.c %D%/source.h \
	%D%/layout.c %D%/layout.h \
	%D%/connect.c %D%/connect.h \
	%D%/manifests.c %D%/manifests.h \
	%D%/image.c %D%/image.h %D%/native.c %D%/native.h \
	%D%/merged.c %D%/merged.h %D%/metarun.c %D%/metarun.h \
	%D%/monitor.c %D%/monitor_worker.c %D%/monitor_impl.h %D%/monitor.h \
	%D%/control.c %D%/control.h \
	%D%/state.c %D%/state.h \
	%D%/stats.c %D%/stats.h \
	%D%/ctl.h \
	%D%/oom.c %D%/oom.h %D%/mnt.c %D%/mnt.h %D%/super.c %D%/super.h \
	%D%/worker.c %D%/worker.h \
	%D%/opens.c %D%/opens.h %D%/backing.c %D%/backing.h \
	%D%/passthru.c %D%/passthru.h \
	%D%/sandbox.c %D%/sandbox.h %D%/meta.c \
	%D%/events.c %D%/events.h %D%/paths.c %D%/paths.h \
	%D%/build.c %D%/build.h \
	%D%/session.c %D%/session.h \
	%D%/ops.c %D%/ops.h %D%/datadir.c %D%/datadir.h \
	%D%/miss.c %D%/jobs.c %D%/miss.h \
	%D%/wait.c %D%/wait.h \
	%D%/refuse.c %D%/refuse.h \
	%D%/firsts.c %D%/firsts.h \
	%D%/nextfiles.c %D%/nextfiles.h \
	%D%/run.c %D%/run.h \
	%D%/ahead.c %D%/ahead.h \
	%D%/fill.c %D%/fill.h \
	%D%/cache.c %D%/cache.h \
	%D%/link.c %D%/link.h

sbin_PROGRAMS += %D%/mount.estargz
%C%_mount_estargz_SOURCES = %D%/main.c
%C%_mount_estargz_LDADD = %D%/libfs.a common/libcommon.a $(COMMON_LIBS) \
	$(FUSE3_LIBS) $(URING_LIBS) $(SECCOMP_LIBS) -lpthread

# estargzfs is the same program.
install-exec-hook:
	cd $(DESTDIR)$(sbindir) && rm -f estargzfs && \
		$(LN_S) mount.estargz estargzfs
uninstall-hook:
	rm -f $(DESTDIR)$(sbindir)/estargzfs

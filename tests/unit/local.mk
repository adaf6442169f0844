# SPDX-License-Identifier: Apache-2.0
# A unit test is one file, named after the module it tests.
LDADD = $(FUZZ_ENGINE) common/libcommon.a $(CMOCKA_LIBS) $(COMMON_LIBS)

if HAVE_CMOCKA
UNIT_TESTS += %D%/test-base
UNIT_TESTS += %D%/test-codec
UNIT_TESTS += %D%/test-json
UNIT_TESTS += %D%/test-toc
UNIT_TESTS += %D%/test-toc-parse
UNIT_TESTS += %D%/test-erofs
%C%_test_erofs_SOURCES = %D%/test-erofs.c %D%/erofs-walk.h
UNIT_TESTS += %D%/test-index
%C%_test_index_SOURCES = %D%/test-index.c %D%/erofs-walk.h %D%/mktoc.h
UNIT_TESTS += %D%/test-merge
%C%_test_merge_SOURCES = %D%/test-merge.c %D%/mkstack.h %D%/erofs-walk.h \
	%D%/mktoc.h
UNIT_TESTS += %D%/test-meta
UNIT_TESTS += %D%/test-chunks
UNIT_TESTS += %D%/test-present
UNIT_TESTS += %D%/test-mnttab
UNIT_TESTS += %D%/test-seal
UNIT_TESTS += %D%/test-trace
UNIT_TESTS += %D%/test-lastrun
UNIT_TESTS += %D%/test-options
%C%_test_options_LDADD = fs/libfs.a $(LDADD)
UNIT_TESTS += %D%/test-events
%C%_test_events_SOURCES = %D%/test-events.c %D%/mktoc.h
%C%_test_events_LDADD = fs/libfs.a $(LDADD) -lpthread
UNIT_TESTS += %D%/test-evlog
%C%_test_evlog_LDADD = cli/libcli.a $(LDADD)
UNIT_TESTS += %D%/test-runstat
%C%_test_runstat_LDADD = cli/libcli.a $(LDADD)
UNIT_TESTS += %D%/test-refuse
%C%_test_refuse_LDADD = fs/libfs.a $(LDADD) -lpthread
UNIT_TESTS += %D%/test-backing
%C%_test_backing_SOURCES = %D%/test-backing.c %D%/mktoc.h %D%/tmproot.h
%C%_test_backing_LDADD = fs/libfs.a $(LDADD) $(SECCOMP_LIBS) -lpthread
UNIT_TESTS += %D%/test-opens
%C%_test_opens_SOURCES = %D%/test-opens.c
%C%_test_opens_LDADD = fs/libfs.a $(LDADD) -lpthread
UNIT_TESTS += %D%/test-stats
%C%_test_stats_LDADD = fs/libfs.a $(LDADD)
UNIT_TESTS += %D%/test-state
%C%_test_state_SOURCES = %D%/test-state.c %D%/tmproot.h
%C%_test_state_LDADD = fs/libfs.a $(LDADD)
UNIT_TESTS += %D%/test-layerdir
%C%_test_layerdir_SOURCES = %D%/test-layerdir.c %D%/tmproot.h
%C%_test_layerdir_LDADD = fs/libfs.a $(LDADD)
UNIT_TESTS += %D%/test-datadir
%C%_test_datadir_SOURCES = %D%/test-datadir.c %D%/mktoc.h
%C%_test_datadir_LDADD = fs/libfs.a $(LDADD) -lpthread
UNIT_TESTS += %D%/test-super
%C%_test_super_LDADD = fs/libfs.a $(LDADD)
UNIT_TESTS += %D%/test-miss
%C%_test_miss_LDADD = fs/libfs.a $(LDADD) $(FUSE3_LIBS) \
	$(SECCOMP_LIBS) -lpthread
UNIT_TESTS += %D%/test-oci
UNIT_TESTS += %D%/test-image
%C%_test_image_CPPFLAGS = $(AM_CPPFLAGS) $(JSON_CFLAGS)
nodist_EXTRA_%C%_test_image_SOURCES = %D%/cxx.cc
%C%_test_image_LDADD = $(IMAGE_LIBS) $(CMOCKA_LIBS)
UNIT_TESTS += %D%/test-members
%C%_test_members_LDADD = cli/libcli.a $(LDADD)
UNIT_TESTS += %D%/test-manifest
%C%_test_manifest_CPPFLAGS = $(AM_CPPFLAGS) $(JSON_CFLAGS)
nodist_EXTRA_%C%_test_manifest_SOURCES = %D%/cxx.cc
%C%_test_manifest_LDADD = $(IMAGE_LIBS) $(CMOCKA_LIBS)
UNIT_TESTS += %D%/test-observe
%C%_test_observe_LDADD = cli/libcli.a $(LDADD)
UNIT_TESTS += %D%/test-run
%C%_test_run_SOURCES = %D%/test-run.c %D%/tmproot.h
%C%_test_run_CPPFLAGS = $(AM_CPPFLAGS) $(JSON_CFLAGS)
%C%_test_run_LDADD = cli/libcli.a $(LDADD)
UNIT_TESTS += %D%/test-natives
%C%_test_natives_CPPFLAGS = $(AM_CPPFLAGS) $(JSON_CFLAGS)
%C%_test_natives_LDADD = cli/libcli.a $(LDADD)
UNIT_TESTS += %D%/test-record
%C%_test_record_LDADD = cli/libcli.a $(LDADD)
UNIT_TESTS += %D%/test-pace
%C%_test_pace_LDADD = $(FETCHER_LDADD) $(CMOCKA_LIBS)
UNIT_TESTS += %D%/test-plan
%C%_test_plan_LDADD = $(FETCHER_LDADD) $(CMOCKA_LIBS)
UNIT_TESTS += %D%/test-sched
%C%_test_sched_LDADD = $(FETCHER_LDADD) $(CMOCKA_LIBS)
UNIT_TESTS += %D%/test-proto
%C%_test_proto_LDADD = $(FETCHER_LDADD) $(CMOCKA_LIBS)
UNIT_TESTS += %D%/test-listen
UNIT_TESTS += %D%/test-protocl
%C%_test_protocl_LDADD = $(FETCHER_LDADD) $(CMOCKA_LIBS) -lpthread
# With a C++ source that is never made: toml.cc needs that linker.
UNIT_TESTS += %D%/test-auth
nodist_EXTRA_%C%_test_auth_SOURCES = %D%/cxx.cc
%C%_test_auth_LDADD = $(FETCHER_LDADD) $(CMOCKA_LIBS)
UNIT_TESTS += %D%/test-hosts
nodist_EXTRA_%C%_test_hosts_SOURCES = %D%/cxx.cc
%C%_test_hosts_LDADD = $(FETCHER_LDADD) $(CMOCKA_LIBS)
UNIT_TESTS += %D%/test-snapconf
nodist_EXTRA_%C%_test_snapconf_SOURCES = %D%/cxx.cc
%C%_test_snapconf_LDADD = $(SNAPSHOTTER_LIBS) $(CMOCKA_LIBS)
UNIT_TESTS += %D%/test-pool
%C%_test_pool_LDADD = daemon/snapshotter/libsnapshotter.a $(LDADD) -lpthread
UNIT_TESTS += %D%/test-grpc
%C%_test_grpc_SOURCES = %D%/test-grpc.c %D%/h2client.c %D%/h2client.h
%C%_test_grpc_LDADD = daemon/snapshotter/libsnapshotter.a $(LDADD) \
	$(NGHTTP2_LIBS) -lpthread
UNIT_TESTS += %D%/test-grpc-pool
%C%_test_grpc_pool_SOURCES = %D%/test-grpc-pool.c %D%/h2client.c %D%/h2client.h
%C%_test_grpc_pool_LDADD = $(tests_unit_test_grpc_LDADD)
UNIT_TESTS += %D%/test-grpc-oom
%C%_test_grpc_oom_SOURCES = %D%/test-grpc-oom.c %D%/h2client.c %D%/h2client.h
%C%_test_grpc_oom_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=malloc \
	-Wl,--wrap=calloc -Wl,--wrap=realloc -Wl,--wrap=strdup
%C%_test_grpc_oom_LDADD = $(tests_unit_test_grpc_LDADD)
UNIT_TESTS += %D%/test-service
%C%_test_service_SOURCES = %D%/test-service.c %D%/h2client.c %D%/h2client.h
nodist_EXTRA_%C%_test_service_SOURCES = %D%/cxx.cc
%C%_test_service_LDADD = $(SNAPSHOTTER_LIBS) $(CMOCKA_LIBS) -lpthread
UNIT_TESTS += %D%/test-glob
%C%_test_glob_LDADD = cli/libcli.a $(LDADD)
UNIT_TESTS += %D%/test-progress
%C%_test_progress_LDADD = cli/libcli.a $(LDADD) -lpthread
UNIT_TESTS += %D%/test-wanted
%C%_test_wanted_LDADD = cli/libcli.a $(LDADD) -lpthread
UNIT_TESTS += %D%/test-labels
%C%_test_labels_LDADD = daemon/snapshotter/libsnapshotter.a $(LDADD)
UNIT_TESTS += %D%/test-lazy
%C%_test_lazy_LDADD = daemon/snapshotter/libsnapshotter.a $(LDADD)
UNIT_TESTS += %D%/test-supmsg
%C%_test_supmsg_LDADD = daemon/snapshotter/libsnapshotter.a $(LDADD)
UNIT_TESTS += %D%/test-layers
nodist_EXTRA_%C%_test_layers_SOURCES = %D%/cxx.cc
%C%_test_layers_LDADD = $(SNAPSHOTTER_LIBS) $(CMOCKA_LIBS) -lpthread
UNIT_TESTS += %D%/test-stack
%C%_test_stack_LDADD = daemon/snapshotter/libsnapshotter.a $(LDADD) \
	$(SQLITE_LIBS) -lpthread
UNIT_TESTS += %D%/test-chainfile
%C%_test_chainfile_LDADD = daemon/snapshotter/libsnapshotter.a $(LDADD)
UNIT_TESTS += %D%/test-filter
%C%_test_filter_LDADD = daemon/snapshotter/libsnapshotter.a $(LDADD) \
	$(PCRE_LIBS)
UNIT_TESTS += %D%/test-evfiles
%C%_test_evfiles_LDADD = daemon/snapshotter/libsnapshotter.a $(LDADD)
UNIT_TESTS += %D%/test-disk
%C%_test_disk_LDADD = daemon/snapshotter/libsnapshotter.a $(LDADD) -lpthread
UNIT_TESTS += %D%/test-snapshots
%C%_test_snapshots_LDADD = daemon/snapshotter/libsnapshotter.a $(LDADD) \
	$(SQLITE_LIBS) $(PCRE_LIBS) -lpthread
UNIT_TESTS += %D%/test-tree
%C%_test_tree_LDADD = daemon/snapshotter/libsnapshotter.a $(LDADD) \
	$(SQLITE_LIBS) -lpthread
UNIT_TESTS += %D%/test-tar
%C%_test_tar_SOURCES = %D%/test-tar.c %D%/mktar.h %D%/memsource.h
%C%_test_tar_LDADD = $(FUZZ_ENGINE) $(BUILD_LIBS) $(CMOCKA_LIBS)
UNIT_TESTS += %D%/test-build
%C%_test_build_SOURCES = %D%/test-build.c %D%/mktar.h %D%/memsource.h
%C%_test_build_LDADD = $(FUZZ_ENGINE) $(BUILD_LIBS) $(CMOCKA_LIBS)
endif

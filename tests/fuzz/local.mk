# SPDX-License-Identifier: Apache-2.0
# One target is one file, fuzz-<module>.c with LLVMFuzzerTestOneInput(), and
# one line here. Its seeds, if any, are in corpus/fuzz-<module>/; everything
# in tests/data/ is a seed as well. A target is linked as unit tests are; one
# that needs more says so: tests_fuzz_fuzz_x_LDADD = $(FUZZ_ENGINE) ...
#
# Configured with --enable-fuzzing (and CC=clang-14) the targets are linked
# with libFuzzer, and `make fuzz FUZZ_SECONDS=60` runs each for that long.
# Otherwise they get a main that replays files. Either way `make check` runs
# each over its seeds.
FUZZ_TARGETS =
FUZZ_TARGETS += %D%/fuzz-build
%C%_fuzz_build_LDADD = $(FUZZ_ENGINE) $(BUILD_LIBS)
FUZZ_TARGETS += %D%/fuzz-codec
FUZZ_TARGETS += %D%/fuzz-erofs
FUZZ_TARGETS += %D%/fuzz-evlog
%C%_fuzz_evlog_LDADD = cli/libcli.a $(LDADD)
FUZZ_TARGETS += %D%/fuzz-footer
FUZZ_TARGETS += %D%/fuzz-glob
%C%_fuzz_glob_LDADD = cli/libcli.a $(LDADD)
FUZZ_TARGETS += %D%/fuzz-index
FUZZ_TARGETS += %D%/fuzz-json
FUZZ_TARGETS += %D%/fuzz-tar
%C%_fuzz_tar_LDADD = $(FUZZ_ENGINE) $(BUILD_LIBS)
FUZZ_TARGETS += %D%/fuzz-toc
FUZZ_TARGETS += %D%/fuzz-merge
FUZZ_TARGETS += %D%/fuzz-plan
%C%_fuzz_plan_LDADD = $(FUZZ_ENGINE) $(FETCHER_LDADD)
FUZZ_TARGETS += %D%/fuzz-trace
FUZZ_TARGETS += %D%/fuzz-lastrun
FUZZ_TARGETS += %D%/fuzz-manifest
FUZZ_TARGETS += %D%/fuzz-proto
%C%_fuzz_proto_LDADD = $(FUZZ_ENGINE) $(FETCHER_LDADD)
FUZZ_TARGETS += %D%/fuzz-http
nodist_EXTRA_%C%_fuzz_http_SOURCES = %D%/cxx.cc
%C%_fuzz_http_LDADD = $(FUZZ_ENGINE) $(FETCHER_LDADD)
FUZZ_TARGETS += %D%/fuzz-byteranges
%C%_fuzz_byteranges_LDADD = $(FUZZ_ENGINE) $(FETCHER_LDADD)
nodist_EXTRA_%C%_fuzz_byteranges_SOURCES = %D%/cxx.cc
FUZZ_TARGETS += %D%/fuzz-config
nodist_EXTRA_%C%_fuzz_config_SOURCES = %D%/cxx.cc
%C%_fuzz_config_LDADD = $(FUZZ_ENGINE) $(FETCHER_LDADD)
FUZZ_TARGETS += %D%/fuzz-snapconf
nodist_EXTRA_%C%_fuzz_snapconf_SOURCES = %D%/cxx.cc
%C%_fuzz_snapconf_LDADD = $(FUZZ_ENGINE) $(SNAPSHOTTER_LIBS)
FUZZ_TARGETS += %D%/fuzz-labels
%C%_fuzz_labels_LDADD = daemon/snapshotter/libsnapshotter.a $(LDADD)
FUZZ_TARGETS += %D%/fuzz-filter
%C%_fuzz_filter_LDADD = $(FUZZ_ENGINE) daemon/snapshotter/libsnapshotter.a \
	common/libcommon.a $(PCRE_LIBS) $(COMMON_LIBS)
FUZZ_TARGETS += %D%/fuzz-grpc
%C%_fuzz_grpc_LDADD = $(FUZZ_ENGINE) daemon/snapshotter/libsnapshotter.a \
	common/libcommon.a $(NGHTTP2_LIBS) $(COMMON_LIBS) -lpthread
FUZZ_TARGETS += %D%/fuzz-service
nodist_EXTRA_%C%_fuzz_service_SOURCES = %D%/cxx.cc
%C%_fuzz_service_LDADD = $(FUZZ_ENGINE) $(SNAPSHOTTER_LIBS) -lpthread
FUZZ_TARGETS += %D%/fuzz-supmsg
%C%_fuzz_supmsg_LDADD = daemon/snapshotter/libsnapshotter.a $(LDADD)
FUZZ_TARGETS += %D%/fuzz-runuser
%C%_fuzz_runuser_LDADD = cli/libcli.a $(LDADD)
FUZZ_TARGETS += %D%/fuzz-record
%C%_fuzz_record_LDADD = cli/libcli.a $(LDADD)
FUZZ_TARGETS += %D%/fuzz-imgdocs
nodist_EXTRA_%C%_fuzz_imgdocs_SOURCES = %D%/cxx.cc
%C%_fuzz_imgdocs_LDADD = $(FUZZ_ENGINE) $(IMAGE_LIBS)
FUZZ_TARGETS += %D%/fuzz-archive
nodist_EXTRA_%C%_fuzz_archive_SOURCES = %D%/cxx.cc
%C%_fuzz_archive_LDADD = $(FUZZ_ENGINE) $(IMAGE_LIBS)
FUZZ_TARGETS += %D%/fuzz-blobcheck
nodist_EXTRA_%C%_fuzz_blobcheck_SOURCES = %D%/cxx.cc
%C%_fuzz_blobcheck_LDADD = $(FUZZ_ENGINE) cli/libcli.a $(BUILD_LIBS) \
	$(IMAGE_LIBS)

check_PROGRAMS += $(FUZZ_TARGETS)
SH_TESTS += %D%/corpus.sh
EXTRA_DIST += %D%/corpus tests/data

# An archive, so that only programs without a main of their own take it.
check_LIBRARIES += %D%/libreplay.a
%C%_libreplay_a_SOURCES = %D%/replay.c
if FUZZING
FUZZ_ENGINE = $(LIBFUZZER)
else
FUZZ_ENGINE = %D%/libreplay.a
endif

FUZZ_SECONDS = 60
FUZZ_BYTES_MAX = 65536
# What is found goes to the build directory: found/ grows the corpus, crash/
# has the inputs that failed.
.PHONY: fuzz
if FUZZING
fuzz: $(FUZZ_TARGETS)
	@for t in $(FUZZ_TARGETS); do \
		n=`basename $$t`; \
		$(MKDIR_P) %D%/found/$$n %D%/crash/$$n || exit 1; \
		dirs=%D%/found/$$n; \
		for d in $(srcdir)/%D%/corpus/$$n $(srcdir)/tests/data/ok \
			$(srcdir)/tests/data/bad; do \
			test ! -d $$d || dirs="$$dirs $$d"; \
		done; \
		echo "fuzz $$n for $(FUZZ_SECONDS) s"; \
		./$$t -max_total_time=$(FUZZ_SECONDS) \
			-max_len=$(FUZZ_BYTES_MAX) -timeout=10 \
			-rss_limit_mb=512 -malloc_limit_mb=300 \
			-artifact_prefix=%D%/crash/$$n/ \
			-print_final_stats=1 -verbosity=0 $$dirs || exit 1; \
	done
else
fuzz:
	@echo "configure with --enable-fuzzing CC=clang-14 CXX=clang++-14" >&2
	@exit 1
endif

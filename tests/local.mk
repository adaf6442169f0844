# SPDX-License-Identifier: Apache-2.0
# unit/: one test program a module; sh/: end-to-end scripts; both print TAP.
TEST_EXTENSIONS = .sh
LOG_DRIVER = env AM_TAP_AWK='$(AWK)' $(SHELL) $(top_srcdir)/build-aux/tap-driver.sh
SH_LOG_DRIVER = $(LOG_DRIVER)
# A script that hangs is ended, and cleans up after itself.
SH_LOG_COMPILER = timeout --foreground -k 60 1500
AM_TESTS_ENVIRONMENT = CMOCKA_MESSAGE_OUTPUT=TAP; export CMOCKA_MESSAGE_OUTPUT; \
	top_srcdir='$(abs_top_srcdir)'; export top_srcdir; \
	top_builddir='$(abs_top_builddir)'; export top_builddir; \
	fuzz_programs='$(FUZZ_TARGETS)'; export fuzz_programs;

UNIT_TESTS =
SH_TESTS =
include %D%/unit/local.mk
include %D%/sh/local.mk
include %D%/srv/local.mk
include %D%/fuzz/local.mk
include %D%/tools/local.mk

check_PROGRAMS += $(UNIT_TESTS)
TESTS += $(UNIT_TESTS) $(SH_TESTS)
EXTRA_DIST += $(SH_TESTS)

# For contrib/check.
.PHONY: print-unit-tests print-fuzz-targets
print-unit-tests:
	@echo $(UNIT_TESTS)
print-fuzz-targets:
	@echo $(FUZZ_TARGETS)

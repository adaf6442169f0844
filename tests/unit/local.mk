# SPDX-License-Identifier: Apache-2.0
# A unit test is one file, named after the module it tests.
LDADD = common/libcommon.a $(CMOCKA_LIBS) $(COMMON_LIBS)

if HAVE_CMOCKA
UNIT_TESTS += %D%/test-base
endif

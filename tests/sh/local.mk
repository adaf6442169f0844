# SPDX-License-Identifier: Apache-2.0
# End-to-end scripts; they skip what the machine cannot do.
SH_TESTS += \
	%D%/m01-local.sh

EXTRA_DIST += tests/lib.sh tests/images.sh \
	tests/tools/esgz.py tests/tools/mkesgz.py tests/tools/treecmp.py

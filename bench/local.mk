# SPDX-License-Identifier: Apache-2.0
# shape: a slow, far network; run: prints the table of figures.
noinst_PROGRAMS += %D%/shape %D%/timed %D%/inflate
%C%_shape_SOURCES = %D%/shape.c
%C%_shape_LDADD =
%C%_timed_SOURCES = %D%/timed.c
%C%_timed_LDADD =
%C%_inflate_SOURCES = %D%/inflate.c
%C%_inflate_LDADD = $(DEFLATE_LIBS)
EXTRA_DIST += %D%/run %D%/prepare %D%/split.py %D%/input.py %D%/table.py %D%/README.md

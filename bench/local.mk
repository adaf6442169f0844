# SPDX-License-Identifier: Apache-2.0
noinst_PROGRAMS += %D%/shape
%C%_shape_SOURCES = %D%/shape.c
%C%_shape_LDADD =

# SPDX-License-Identifier: Apache-2.0
noinst_PROGRAMS += %D%/fetchctl
%C%_fetchctl_SOURCES = %D%/fetchctl.c

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whole gzip members. The bytes depend on the level and the input alone, not on
 * the machine, nor on where the memory is: libdeflate has one algorithm for all.
 * Of that 8 is the highest here: its 9 takes 1.4 times as long for 0.05 %.
 * Level 1 is igzip's level 0: at its levels 1 and 2 one member in some ten
 * thousand depends on addresses (the tables of codes, in libisal 2.30), at its
 * level 3 the bytes depend on the vector unit. Level 0 is the same with SSE 4.2,
 * AVX2 and AVX-512; an x86 without SSE 4.2, older than 2008, hashes otherwise.
 * Above all is COMP_LEVEL_BEST, libdeflate's 12, for what is little and waited for:
 * 3 to 5 % smaller than the others, in ten times the time.
 */
#ifndef CLI_BUILD_COMPRESS_H
#define CLI_BUILD_COMPRESS_H

#include "common/base.h"

#define COMP_LEVEL_MAX 9
#define COMP_LEVEL_BEST 12

struct comp;
/* @level: 1 to COMP_LEVEL_MAX, COMP_LEVEL_BEST. Return: NULL where there is no memory */
struct comp *comp_new(int level);
void comp_free(struct comp *c);
DEFINE_CLEANUP(struct comp, comp_free);

/* Room for a member of n bytes, whatever they are. */
size_t comp_bound(size_t n);

/* Compresses [@n] to a member; @out has comp_bound(@n). Return: its length */
size_t comp_member(struct comp *c, const void *in, size_t n, void *out);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a file's compressed range has to be compared with: inflate MEMBERS
 * reads gzip members from stdin and writes what is in them to stdout, one
 * after the other, one thread, by libdeflate. MEMBERS has a line for each,
 * "COMPRESSED INFLATED" (bytes); bench/input.py writes it. Nothing is
 * verified beyond gzip's own CRC.
 */
#include "config.h"

#include <errno.h>
#include <libdeflate.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base.h"

#define MEMBER_BYTES_MAX MIB(64)

static int read_all(uint8_t *p, size_t n)
{
	while (n > 0) {
		ssize_t r = read(STDIN_FILENO, p, n);

		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return r < 0 ? -errno : -ENODATA;
		p += r;
		n -= (size_t)r;
	}
	return 0;
}

static int write_all(const uint8_t *p, size_t n)
{
	while (n > 0) {
		ssize_t r = write(STDOUT_FILENO, p, n);

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return -errno;
		p += r;
		n -= (size_t)r;
	}
	return 0;
}

static int one(struct libdeflate_decompressor *d, size_t clen, size_t ulen)
{
	static uint8_t *in, *out;
	static size_t in_cap, out_cap;
	int r;

	if (clen > MEMBER_BYTES_MAX || ulen > MEMBER_BYTES_MAX)
		return -EFBIG;
	if (clen > in_cap) {
		free(in);
		in = malloc(clen);
		in_cap = clen;
	}
	if (ulen > out_cap) {
		free(out);
		out = malloc(ulen);
		out_cap = ulen;
	}
	if (in == NULL || out == NULL)
		return -ENOMEM;
	r = read_all(in, clen);
	if (r < 0)
		return r;
	if (libdeflate_gzip_decompress(d, in, clen, out, ulen, NULL) !=
	    LIBDEFLATE_SUCCESS)
		return -EBADMSG;
	return write_all(out, ulen);
}

int main(int argc, char **argv)
{
	struct libdeflate_decompressor *d = libdeflate_alloc_decompressor();
	FILE *list = argc == 2 ? fopen(argv[1], "re") : NULL;
	size_t clen, ulen;
	int r = 0;

	if (d == NULL || list == NULL) {
		(void)fputs("usage: inflate MEMBERS <RANGE\n", stderr);
		return 2;
	}
	while (r == 0 && fscanf(list, "%zu %zu", &clen, &ulen) == 2)
		r = one(d, clen, ulen);
	libdeflate_free_decompressor(d);
	(void)fclose(list);
	if (r == 0)
		return 0;
	(void)fprintf(stderr, "inflate: %s\n", strerror(-r));
	return 1;
}

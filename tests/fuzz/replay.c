/* SPDX-License-Identifier: Apache-2.0 */
/* The main of a fuzz target built without libFuzzer: runs it over files. */
#include "config.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define FILE_BYTES_MAX ((size_t)16 << 20)

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t len);

static int run_file(const char *path)
{
	FILE *f = fopen(path, "rb");
	uint8_t *p = NULL;
	size_t len = 0;

	if (f != NULL)
		p = malloc(FILE_BYTES_MAX);
	if (p != NULL)
		len = fread(p, 1, FILE_BYTES_MAX, f);
	if (p == NULL || ferror(f) || len == FILE_BYTES_MAX) {
		fprintf(stderr, "cannot read %s\n", path);
		exit(1);
	}
	fclose(f);
	/* Shrunk, so that a sanitizer sees the first byte behind it. */
	if (len > 0) {
		uint8_t *q = realloc(p, len);

		p = q != NULL ? q : p;
	}
	(void)LLVMFuzzerTestOneInput(p, len);
	free(p);
	return 0;
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		run_file(argv[i]);
	return 0;
}

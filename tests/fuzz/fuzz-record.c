/* SPDX-License-Identifier: Apache-2.0 */
/* Records of what a run has read; what is taken is printed and taken again. */
#include "config.h"

#include <stdint.h>
#include <string.h>

#include "cli/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP_RECORD struct record r = {0}, again = {0};
	CLEANUP_BUF struct buf b = BUF_INIT(RECORD_BYTES_MAX);
	CLEANUP_BUF struct buf c = BUF_INIT(RECORD_BYTES_MAX);
	struct err e = {0};

	if (record_parse((const char *)data, size, &r, &e) < 0) {
		assert(e.text[0] != '\0');
		return 0;
	}
	assert(record_print(&r, &b) == 0);
	/* Bytes that are not UTF-8 are lost, as they are in ctr-remote's. */
	if (b.p != NULL && strstr(b.p, "\\ufffd") != NULL)
		return 0;
	assert(record_parse(b.p != NULL ? b.p : "", b.len, &again, &e) == 0);
	assert(again.n_files == r.n_files);
	assert(record_print(&again, &c) == 0);
	assert(b.len == c.len && (b.len == 0 || memcmp(b.p, c.p, b.len) == 0));
	return 0;
}

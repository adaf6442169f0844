/* SPDX-License-Identifier: Apache-2.0 */
/* The reader of EROFS metadata: any bytes, everything in them is walked. */
#include "config.h"

#include "tests/unit/erofs-walk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *copy = malloc(size + 1);
	struct erofs_image im;
	struct err e = {0};

	if (copy == NULL)
		return 0;
	/* No fuzzer finds a checksum. The copy ends where the memory does. */
	memcpy(copy + 1, data, size);
	fix_checksum(copy + 1, size);
	if (erofs_open(&im, copy + 1, size, &e) == 0) {
		(void)walk_image(&im);
		(void)erofs_has_xattrs(&im);
	}
	free(copy);
	return 0;
}

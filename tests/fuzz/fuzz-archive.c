/* SPDX-License-Identifier: Apache-2.0 */
/* An archive of an image, of either kind: found, and read to the last blob. */
#include "config.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "cli/image/manifest.h"
#include "common/io.h"
#include "common/limits.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_blob(struct image_src *s, const struct image_desc *d)
{
	struct image_read *in;
	struct err e = {0};
	char block[4096];
	uint64_t sum = 0;
	ssize_t n;

	if (image_src_blob(s, d, &in, &e) < 0) {
		assert(e.code < 0);
		return;
	}
	while ((n = image_read_some(in, block, sizeof(block), &e)) > 0)
		sum += (uint64_t)n;
	/* What is read to its end is what the descriptor says. */
	assert(n < 0 || d->size == 0 || sum == d->size);
	image_read_close(in);
}

static void look(enum image_transport transport, char *path)
{
	const struct image_name n = {.transport = transport, .path = path};
	CLEANUP_BUF struct buf doc = BUF_INIT(MANIFEST_BYTES_MAX);
	CLEANUP(image_desc_done) struct image_desc root = {0};
	CLEANUP_MANIFEST struct manifest m = {0};
	struct image_src *s;
	struct err e = {0};

	if (image_src_open(&n, NULL, &s, &e) < 0) {
		assert(e.text[0] != '\0');
		return;
	}
	if (image_src_root(s, &root, &doc, &e) == 0 &&
	    manifest_load(s, &root, doc.p, doc.len, &m, &e) == 0) {
		for (size_t i = 0; i < m.n_layers; i++)
			read_blob(s, &m.layers[i].desc);
	} else {
		assert(e.text[0] != '\0');
	}
	image_src_close(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP_CLOSE int fd = memfd_create("archive", MFD_CLOEXEC);
	char path[64];

	assert(fd >= 0);
	assert(io_pwrite_all(fd, data, size, 0) == 0);
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	look(IMAGE_OCI_ARCHIVE, path);
	look(IMAGE_DOCKER_ARCHIVE, path);
	return 0;
}

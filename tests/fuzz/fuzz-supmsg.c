/* SPDX-License-Identifier: Apache-2.0 */
/* Packets of monitors. The first byte: 1 a descriptor comes with it, 2 its length
 * is made right, 4 and its version. */
#include "config.h"

#include <fcntl.h>
#include <stdint.h>
#include <string.h>

#include "common/rd.h"
#include "daemon/snapshotter/supmsg.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t p[sizeof(struct sup_ready) + SUP_TEXT_BYTES];
	struct supmsg m;
	int fd = -1, r;
	size_t n;

	if (size < 1)
		return 0;
	n = MIN(size - 1, sizeof(p));
	memcpy(p, data + 1, n);
	if (n >= sizeof(struct sup_hdr) && (data[0] & 2) != 0)
		le32_store(p + offsetof(struct sup_hdr, len), (uint32_t)n);
	if (n >= sizeof(struct sup_hdr) && (data[0] & 4) != 0)
		memcpy(p + offsetof(struct sup_hdr, version), "\1", 2);
	if ((data[0] & 1) != 0)
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	r = supmsg_parse(p, n, fd, &m);
	if (r < 0) {
		assert(r == -EPROTO || r == -EOPNOTSUPP);
		assert(m.fuse_fd < 0);
		return 0;
	}
	assert(r == 1);
	assert((m.type == SUP_READY) == (m.fuse_fd >= 0));
	if (m.type == SUP_READY) {
		assert(m.session.init_len <= SUP_INIT_BYTES && m.pid > 0);
		(void)close(m.fuse_fd);
	}
	if (m.type == SUP_FAILED)
		assert(m.e.code < 0 && m.e.text[0] != '\0');
	return 0;
}

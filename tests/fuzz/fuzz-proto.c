/* SPDX-License-Identifier: Apache-2.0 */
/* Packets of clients. The first byte is the number of descriptors. */
#include "config.h"

#include <stdint.h>
#include <string.h>

#include "common/rd.h"
#include "daemon/fetcher/wire.h"

#define ARENA MIB(1)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char text[PROTO_TEXT_MAX + 1];
	static uint8_t packet[PROTO_PACKET_MAX];
	struct wire_msg m = {0};
	struct err e = {0};
	size_t n;

	if (size < 1)
		return 0;
	n = MIN(size - 1, sizeof(packet));
	memcpy(packet, data + 1, n);
	/* A length that is right lets the rest be reached. */
	if (n >= 8 && (data[0] & 4) != 0)
		le32_store(packet + 4, (uint32_t)n);
	if (wire_parse(packet, n, data[0] & 3, ARENA, text, &m, &e) < 0) {
		assert(e.code == -EPROTO);
		return 0;
	}
	if (m.type == PROTO_READ)
		assert(m.len > 0 && m.arena_off <= ARENA &&
		       m.len <= ARENA - m.arena_off);
	if (m.type == PROTO_STATUS || m.type == PROTO_RESOLVE)
		assert(m.arena_off <= ARENA &&
		       m.arena_len <= ARENA - m.arena_off);
	if (m.type == PROTO_WARM)
		assert(m.tail_bytes <= PROTO_WARM_TAIL_BYTES_MAX);
	assert(strlen(m.text) <= PROTO_TEXT_MAX);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* What a layer's blob says of itself, from its ends alone: format, footer,
 * TOC. For inspect and verify. */
#ifndef CLI_LAYERINFO_H
#define CLI_LAYERINFO_H

#include "cli/image/image.h"
#include "common/codec.h"
#include "common/toc.h"

enum layer_format {
	LAYER_TAR = 1,
	LAYER_GZIP,
	LAYER_ZSTD,
	LAYER_STARGZ,
	LAYER_ESTARGZ,
	LAYER_ZSTD_CHUNKED,
};

/**
 * struct layer_in - reads parts of a blob, as image_src_range() does
 */
struct layer_in {
	int (*range)(void *arg, uint64_t off, size_t n, struct buf *ret,
		     uint64_t *ret_size, struct err *e);
	void *arg;
};

/**
 * struct layer_chunk - a chunk of the TOC that has bytes
 * @entry:	number of its file in toc->entries
 * @at, @len:	of the file
 */
struct layer_chunk {
	const struct toc_entry *t;
	uint32_t entry;
	uint64_t at;
	uint64_t len;
};

/**
 * struct layerinfo - a layer
 * @why_not:	where it has no TOC: why; code 0 where it never claimed one
 * @toc:	NULL where it has none; then what follows is empty
 * @json:	the TOC as it is in the blob, which @toc_digest is of
 * @chunks:	[@n_chunks] in the order of the TOC
 * @prioritised: of the blob, up to the landmark; 0: nothing is
 */
struct layerinfo {
	enum layer_format format;
	uint64_t size;
	struct err why_not;
	struct toc_footer footer;
	struct buf json;
	struct digest toc_digest;
	struct toc *toc;
	char *parsed;
	struct layer_chunk *chunks;
	size_t n_chunks;
	uint64_t prioritised;
	uint32_t n_prioritised;
};
void layerinfo_done(struct layerinfo *l);
#define CLEANUP_LAYERINFO CLEANUP(layerinfo_done)

/**
 * layerinfo_read() - read the ends of a blob
 * @toc_digest:	may be NULL; the TOC is not parsed where it is another one, and
 *		why_not says so: its digest and JSON are there
 * @size:	of the blob, 0 where not known
 *
 * A blob without a TOC, or with a broken one, is no error. Return: 0, -errno
 * where it cannot be read
 */
int layerinfo_read(const struct layer_in *in, uint64_t size,
		   const struct digest *toc_digest, struct layerinfo *ret,
		   struct err *e);

const char *layer_format_name(enum layer_format f);
enum codec_kind layer_codec(enum layer_format f);

/* Bytes from a blob's end that a mount asks for first. */
uint64_t layer_tail_bytes(uint64_t size);

#endif

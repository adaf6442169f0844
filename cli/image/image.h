/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: images where they are: registries, OCI layouts, archives. One shape for
 * reading (struct image_src) and one for writing (struct image_dst); each
 * transport fills in the functions. Everything here blocks; a struct is used by
 * one thread at a time, but several image_reads of one source may be read by
 * a thread each.
 *
 * Nothing that is read is believed before its digest is right: documents are
 * checked before they are returned, blobs at their end. Nothing that is written
 * can be seen under its name before image_dst_commit().
 */
#ifndef CLI_IMAGE_IMAGE_H
#define CLI_IMAGE_IMAGE_H

#include "common/base.h"
#include "common/buf.h"
#include "common/digest.h"
#include "common/err.h"
#include "common/oci.h"

enum image_transport {
	IMAGE_DOCKER = 1,     /* docker://HOST/REPO[:TAG|@DIGEST] */
	IMAGE_OCI,            /* oci:DIR[:TAG] */
	IMAGE_OCI_ARCHIVE,    /* oci-archive:FILE[:TAG] */
	IMAGE_DOCKER_ARCHIVE, /* docker-archive:FILE[:REF] */
};

/**
 * struct image_name - what SRC or DST says
 * @path:	of the three local transports
 * @tag:	of the three local transports, NULL where none was given
 * @ref:	of IMAGE_DOCKER
 */
struct image_name {
	enum image_transport transport;
	char *path;
	char *tag;
	struct oci_ref ref;
};

/**
 * image_name_parse() - "TRANSPORT:…" as skopeo spells it
 *
 * "docker://debian" is docker.io/library/debian, as with docker and skopeo.
 * Source: containers-transports(5)
 * Return: 0, -EINVAL (no transport, or one we do not have), -EBADMSG, -ENOMEM
 */
int image_name_parse(const char *s, struct image_name *ret, struct err *e);
void image_name_done(struct image_name *n);
#define CLEANUP_IMAGE_NAME CLEANUP(image_name_done)

/**
 * struct image_desc - a descriptor: what names a blob or a document
 * @media_type:	heap, NULL where not known
 * @size:	bytes, 0 where not known (an index of a registry asked by tag)
 */
struct image_desc {
	char *media_type;
	struct digest digest;
	uint64_t size;
};
void image_desc_done(struct image_desc *d);
int image_desc_copy(const struct image_desc *from, struct image_desc *ret);

/**
 * struct image_opts - how to speak to registries; all may be zero
 * @hosts_dir, @docker_config: as in estargzd.toml, NULL: its defaults
 * @plain_http:	as mount.estargz's option
 * @try_push:	image_dst_open() finds out whether the registry takes pushes
 */
struct image_opts {
	const char *hosts_dir;
	const char *docker_config;
	bool plain_http;
	bool try_push;
};

/* ---- reading ----------------------------------------------------------- */

struct image_src;
struct image_read;

/* Opens. Nothing of the image is read but what it takes to find it. */
int image_src_open(const struct image_name *n, const struct image_opts *o,
		   struct image_src **ret, struct err *e);
void image_src_close(struct image_src *s);
DEFINE_CLEANUP(struct image_src, image_src_close);

/**
 * image_src_root() - the manifest or index that the name points to
 * @ret:	its descriptor
 * @doc:	appended: its bytes, hashed
 *
 * docker-archive has none: one is made, of media type
 * application/vnd.docker.distribution.manifest.v2+json, whose layers are the
 * archive's tar files, uncompressed or not.
 * Return: 0, -ENOENT, -EBADMSG, -EACCES, …; @e names the image
 */
int image_src_root(struct image_src *s, struct image_desc *ret, struct buf *doc,
		   struct err *e);

/* A manifest (of an index), or a config: appended to @doc, at most
 * MANIFEST_BYTES_MAX, checked against @d's digest, and size where it has one. */
int image_src_document(struct image_src *s, const struct image_desc *d,
		       struct buf *doc, struct err *e);

/**
 * image_src_blob() - read a blob from its first byte to its last
 *
 * image_read_some(): > 0 bytes, 0 at the end, once size and digest were found
 * right; -EBADMSG where they are not. A registry's connection that breaks is
 * resumed where it was.
 */
int image_src_blob(struct image_src *s, const struct image_desc *d,
		   struct image_read **ret, struct err *e);
ssize_t image_read_some(struct image_read *r, void *p, size_t n, struct err *e);
void image_read_close(struct image_read *r);
DEFINE_CLEANUP(struct image_read, image_read_close);

/* [off, off + n) of a blob, not verified: for its footer and TOC. All of it or
 * an error. @off may be UINT64_MAX: the last n bytes (fewer where it is
 * smaller: then *ret_size < n). @ret_size: of the whole blob. */
int image_src_range(struct image_src *s, const struct image_desc *d,
		    uint64_t off, size_t n, struct buf *ret, uint64_t *ret_size,
		    struct err *e);

/* ---- writing ----------------------------------------------------------- */

struct image_dst;

/**
 * image_dst_open() - begin to write an image
 *
 * oci: and archives: the directory need not exist, an archive's file may (it
 * is replaced at the end by rename). docker-archive: takes one image with a
 * gzip or plain layers; an index is refused when it is committed.
 * A blob that is there from an earlier, interrupted try is used.
 */
int image_dst_open(const struct image_name *n, const struct image_opts *o,
		   struct image_dst **ret, struct err *e);
/* Without a commit before: what can be taken away of what was written goes. */
void image_dst_close(struct image_dst *d);
DEFINE_CLEANUP(struct image_dst, image_dst_close);

/* Whether the destination has a blob. Return: 1, 0, -errno. */
int image_dst_has(struct image_dst *d, const struct image_desc *b,
		  struct err *e);

/**
 * image_dst_put() - write a blob
 * @fd:		a file, read from its first byte by pread(2); @b->size bytes
 *		whose digest is @b->digest (a registry checks; so do we)
 * @progress:	may be NULL: told from time to time how many bytes are there
 */
int image_dst_put(struct image_dst *d, const struct image_desc *b, int fd,
		  void (*progress)(void *arg, uint64_t bytes), void *arg,
		  struct err *e);

/* Copies a blob of a source: by a mount where both are repositories of one
 * registry, else read, verified and written; nothing where it is there. */
int image_dst_copy(struct image_dst *d, struct image_src *s,
		   const struct image_desc *b,
		   void (*progress)(void *arg, uint64_t bytes), void *arg,
		   struct err *e);

/* Writes a config, or a manifest of an index. @doc: [@b->size] */
int image_dst_document(struct image_dst *d, const struct image_desc *b,
		       const void *doc, struct err *e);

/**
 * image_dst_commit() - the image is complete: its name points to it
 * @root:	manifest or index; @doc: [@root->size]
 *
 * Everything that it names was put before. A name that was there is replaced
 * in one step. Durable when it returns, as far as that is ours.
 */
int image_dst_commit(struct image_dst *d, const struct image_desc *root,
		     const void *doc, struct err *e);

/**
 * image_dst_refer() - attach an artifact to what was committed
 * @subject:	what was committed
 * @artifact_type: media type
 * @b:		its one blob, @doc: [@b->size]
 *
 * Puts the blob, an empty config and the artifact's manifest, by the referrers
 * API, or where the registry does not have that, in the list behind the tag
 * "sha256-<hex>". A local layout gets the manifest in its index.json. One of
 * the same type and subject that was there before is replaced, but not in a
 * registry that keeps the list itself: there the newest counts.
 * An archive, or a layout that is written without a tag, is what others take
 * for one image: it gets the blob alone, which only who knows its digest finds.
 * Spec: OCI distribution-spec 1.1, "Pushing manifests with subject",
 * "Referrers tag schema"
 * Return: 0, -EOPNOTSUPP (archives of docker), …
 */
int image_dst_refer(struct image_dst *d, const struct image_desc *subject,
		    const char *artifact_type, const struct image_desc *b,
		    const void *doc, struct err *e);

/* The blob of the newest artifact of a type that refers to @subject. Return:
 * 0 and its bytes appended, verified; -ENOENT where there is none. */
int image_src_referrer(struct image_src *s, const struct image_desc *subject,
		       const char *artifact_type, struct buf *ret,
		       struct err *e);

/* A small blob as a whole: its bytes appended, verified. */
int image_src_whole(struct image_src *s, const struct image_desc *b,
		    struct buf *ret, struct err *e);

#endif

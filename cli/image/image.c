/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "cli/image/image.h"

#include <ctype.h>
#include <fcntl.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/image/doc.h"
#include "cli/image/transport.h"
#include "common/io.h"
#include "common/limits.h"

#define COPY_BYTES KIB(256)

/* ---- names ------------------------------------------------------------- */

void image_name_done(struct image_name *n)
{
	free(n->path);
	free(n->tag);
	oci_ref_done(&n->ref);
	*n = (struct image_name){0};
}

static int name_copy(const struct image_name *from, struct image_name *ret)
{
	struct image_name n = {.transport = from->transport,
			       .ref.has_digest = from->ref.has_digest,
			       .ref.digest = from->ref.digest};
	const struct {
		const char *from;
		char **to;
	} strings[] = {
		{from->path, &n.path},         {from->tag, &n.tag},
		{from->ref.host, &n.ref.host}, {from->ref.repo, &n.ref.repo},
		{from->ref.tag, &n.ref.tag},
	};

	for (size_t i = 0; i < ARRAY_SIZE(strings); i++) {
		if (strings[i].from == NULL)
			continue;
		*strings[i].to = strdup(strings[i].from);
		if (*strings[i].to == NULL) {
			image_name_done(&n);
			return -ENOMEM;
		}
	}
	*ret = n;
	return 0;
}

/* "debian" is docker.io/debian, as is what has no host in front. */
static int docker_ref(const char *s, struct oci_ref *ret, struct err *e)
{
	const char *slash = strchr(s, '/');
	size_t n = slash != NULL ? (size_t)(slash - s) : 0;
	CLEANUP_FREE char *full = NULL;

	if (*s == '\0')
		return err_set(e, -EBADMSG, "docker://: no repository");
	if (n > 0 && (memchr(s, '.', n) != NULL || memchr(s, ':', n) != NULL ||
		      (n == 9 && memcmp(s, "localhost", 9) == 0)))
		return oci_ref_parse(s, ret, e);
	if (asprintf(&full, "docker.io/%s", s) < 0) {
		full = NULL;
		return err_no_memory(e);
	}
	return oci_ref_parse(full, ret, e);
}

/* The grammar of org.opencontainers.image.ref.name (OCI image spec, annotations). */
static bool is_ref_name(const char *s)
{
	static const char separators[] = "-._:@/+";
	bool after = false; /* a letter or a digit */

	for (; *s != '\0'; s++) {
		bool word = isalnum((unsigned char)*s) != 0;
		bool twice = s[0] == '-' && s[1] == '-';

		if (!word && (!after || strchr(separators, *s) == NULL))
			return false;
		after = word;
		s += twice ? 1 : 0;
	}
	return after;
}

static int local_name(const char *s, struct image_name *n, struct err *e)
{
	const char *colon = strchr(s, ':');
	size_t path = colon != NULL ? (size_t)(colon - s) : strlen(s);

	if (path == 0)
		return err_set(e, -EBADMSG, "no path");
	if (colon != NULL && (!is_ref_name(colon + 1) ||
			      strlen(colon + 1) > REFERENCE_BYTES_MAX))
		return err_set(e, -EBADMSG, "bad tag behind %.*s",
			       (int)MIN(path, (size_t)128), s);
	n->path = strndup(s, path);
	if (colon != NULL)
		n->tag = strdup(colon + 1);
	if (n->path == NULL || (colon != NULL && n->tag == NULL))
		return err_no_memory(e);
	return 0;
}

int image_name_parse(const char *s, struct image_name *ret, struct err *e)
{
	static const struct {
		const char *prefix;
		enum image_transport transport;
	} transports[] = {
		{"docker://", IMAGE_DOCKER},
		{"oci:", IMAGE_OCI},
		{"oci-archive:", IMAGE_OCI_ARCHIVE},
		{"docker-archive:", IMAGE_DOCKER_ARCHIVE},
	};
	CLEANUP_IMAGE_NAME struct image_name n = {0};
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(transports); i++) {
		size_t len = strlen(transports[i].prefix);

		if (strncmp(s, transports[i].prefix, len) != 0)
			continue;
		n.transport = transports[i].transport;
		r = n.transport == IMAGE_DOCKER ? docker_ref(s + len, &n.ref, e)
						: local_name(s + len, &n, e);
		if (r < 0) {
			(void)err_wrap(e, "%.128s", s);
			return r;
		}
		*ret = n;
		n = (struct image_name){0};
		return 0;
	}
	return err_set(e, -EINVAL,
		       "%.128s: not docker://, oci:, oci-archive: or "
		       "docker-archive:",
		       s);
}

void image_desc_done(struct image_desc *d)
{
	free(d->media_type);
	*d = (struct image_desc){0};
}

int image_desc_copy(const struct image_desc *from, struct image_desc *ret)
{
	struct image_desc d = *from;

	if (from->media_type != NULL) {
		d.media_type = strdup(from->media_type);
		if (d.media_type == NULL)
			return -ENOMEM;
	}
	*ret = d;
	return 0;
}

/* ---- reading ----------------------------------------------------------- */

/* What was named must be there: the default's absence says nothing. */
static int check_opts(const struct image_opts *o, struct err *e)
{
	const char *const paths[] = {
		o != NULL ? o->docker_config : NULL,
		o != NULL ? o->hosts_dir : NULL,
	};

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		if (paths[i] != NULL && access(paths[i], R_OK) < 0)
			return err_set(e, -errno, "%.128s: %s", paths[i],
				       err_name(errno));
	}
	return 0;
}

int image_src_open(const struct image_name *n, const struct image_opts *o,
		   struct image_src **ret, struct err *e)
{
	struct image_src *s = NULL;
	int r = check_opts(o, e);

	if (r < 0)
		return r;
	if (n->transport == IMAGE_DOCKER)
		r = registry_src(n, o, &s, e);
	else if (n->transport == IMAGE_OCI)
		r = layout_src(n, &s, e);
	else
		r = archive_src(n, &s, e);
	if (r < 0)
		return r;
	r = name_copy(n, &s->name);
	if (r < 0) {
		image_src_close(s);
		return err_no_memory(e);
	}
	*ret = s;
	return 0;
}

void image_src_close(struct image_src *s)
{
	struct image_name name;

	if (s == NULL)
		return;
	name = s->name;
	s->ops->close(s);
	image_name_done(&name);
}

static int wrong_size(const char *digest, uint64_t got, uint64_t want,
		      struct err *e)
{
	return err_set(e, -EBADMSG,
		       "%s: %" PRIu64 " bytes, its descriptor says %" PRIu64,
		       digest, got, want);
}

/* Bytes [n] are what @d says. */
static int check(const struct image_desc *d, const char *p, size_t n,
		 struct err *e)
{
	char want[DIGEST_STR_BYTES], got[DIGEST_STR_BYTES];
	struct digest is;
	int r = doc_digest(p, n, &is);

	if (r < 0)
		return err_no_memory(e);
	(void)digest_str(&d->digest, want);
	if (d->size != 0 && d->size != n)
		return wrong_size(want, n, d->size, e);
	if (!digest_equal(&is, &d->digest))
		return err_set(e, -EBADMSG, "%s: has the digest %s", want,
			       digest_str(&is, got));
	return 0;
}

/* What the document says of itself is what its descriptor says. */
static int check_type(struct image_desc *d, const char *p, size_t n,
		      struct err *e)
{
	CLEANUP_DOC struct json_object *o = NULL;
	char digest[DIGEST_STR_BYTES];
	const char *type;
	int r = doc_parse(p, n, digest_str(&d->digest, digest), &o, e);

	if (r < 0)
		return r;
	type = doc_media_type(o);
	if (d->media_type == NULL || d->media_type[0] == '\0') {
		free(d->media_type);
		d->media_type = strdup(type != NULL ? type : "");
		return d->media_type != NULL ? 0 : err_no_memory(e);
	}
	type = doc_str(o, "mediaType");
	if (type != NULL && strcmp(type, d->media_type) != 0)
		return err_set(e, -EBADMSG, "%s: says it is %.80s, not %.80s",
			       digest, type, d->media_type);
	return 0;
}

int image_src_root(struct image_src *s, struct image_desc *ret, struct buf *doc,
		   struct err *e)
{
	struct image_desc d = {0};
	size_t start = doc->len;
	int r = s->ops->root(s, &d, doc, e);

	if (r == 0 && s->name.ref.has_digest &&
	    !digest_equal(&s->name.ref.digest, &d.digest))
		r = err_set(e, -EBADMSG, "another digest than asked for");
	if (r == 0)
		r = check(&d, doc->p + start, doc->len - start, e);
	if (r == 0)
		r = check_type(&d, doc->p + start, doc->len - start, e);
	if (r < 0) {
		image_desc_done(&d);
		return r;
	}
	d.size = doc->len - start;
	*ret = d;
	return 0;
}

int image_src_document(struct image_src *s, const struct image_desc *d,
		       struct buf *doc, struct err *e)
{
	char digest[DIGEST_STR_BYTES];
	size_t start = doc->len;
	int r;

	if (d->size > MANIFEST_BYTES_MAX)
		return err_set(e, -EOVERFLOW, "%s: %" PRIu64 " bytes",
			       digest_str(&d->digest, digest), d->size);
	r = s->ops->document(s, d, doc, e);
	if (r < 0)
		return r;
	if (doc->len - start > MANIFEST_BYTES_MAX)
		return err_set(e, -EOVERFLOW, "%s: %zu bytes",
			       digest_str(&d->digest, digest),
			       doc->len - start);
	return check(d, doc->p + start, doc->len - start, e);
}

int image_src_blob(struct image_src *s, const struct image_desc *d,
		   struct image_read **ret, struct err *e)
{
	struct image_read *r = NULL;
	int rc = s->ops->blob(s, d, &r, e);

	if (rc < 0)
		return rc;
	r->n_read = 0;
	r->sha256 = sha256_new();
	if (r->sha256 == NULL || image_desc_copy(d, &r->desc) < 0) {
		image_read_close(r);
		return err_no_memory(e);
	}
	sha256_start(r->sha256);
	*ret = r;
	return 0;
}

static int read_end(struct image_read *r, struct err *e)
{
	char want[DIGEST_STR_BYTES], got[DIGEST_STR_BYTES];
	struct digest is;

	sha256_end(r->sha256, &is);
	sha256_free(TAKE_PTR(r->sha256));
	(void)digest_str(&r->desc.digest, want);
	if (r->desc.size != 0 && r->n_read != r->desc.size)
		return wrong_size(want, r->n_read, r->desc.size, e);
	if (!digest_equal(&is, &r->desc.digest))
		return err_set(e, -EBADMSG, "%s: has the digest %s", want,
			       digest_str(&is, got));
	return 0;
}

ssize_t image_read_some(struct image_read *r, void *p, size_t n, struct err *e)
{
	char digest[DIGEST_STR_BYTES];
	ssize_t got;

	assert(n > 0);
	if (r->sha256 == NULL)
		return 0;
	got = r->ops->some(r, p, n, e);
	if (got < 0)
		return got;
	if (got == 0)
		return read_end(r, e);
	sha256_add(r->sha256, p, (size_t)got);
	r->n_read += (uint64_t)got;
	if (r->desc.size != 0 && r->n_read > r->desc.size)
		return wrong_size(digest_str(&r->desc.digest, digest),
				  r->n_read, r->desc.size, e);
	return got;
}

void image_read_close(struct image_read *r)
{
	struct image_desc desc;
	struct sha256 *h;

	if (r == NULL)
		return;
	desc = r->desc;
	h = r->sha256;
	r->ops->close(r);
	image_desc_done(&desc);
	sha256_free(h);
}

int image_src_range(struct image_src *s, const struct image_desc *d,
		    uint64_t off, size_t n, struct buf *ret, uint64_t *ret_size,
		    struct err *e)
{
	char digest[DIGEST_STR_BYTES];
	size_t start = ret->len;
	uint64_t size = 0;
	int r = s->ops->range(s, d, off, n, ret, &size, e);

	if (r < 0)
		return r;
	if (d->size != 0 && size != d->size)
		return wrong_size(digest_str(&d->digest, digest), size, d->size,
				  e);
	if (off == UINT64_MAX)
		n = (size_t)MIN((uint64_t)n, size);
	if (ret->len - start != n)
		return err_set(e, -EIO, "%s: %zu of %zu bytes",
			       digest_str(&d->digest, digest), ret->len - start,
			       n);
	if (ret_size != NULL)
		*ret_size = size;
	return 0;
}

/* ---- writing ----------------------------------------------------------- */

int image_dst_open(const struct image_name *n, const struct image_opts *o,
		   struct image_dst **ret, struct err *e)
{
	struct image_dst *d = NULL;
	int r;

	if (n->transport == IMAGE_DOCKER)
		r = registry_dst(n, o, &d, e);
	else if (n->transport == IMAGE_OCI)
		r = layout_dst(n, &d, e);
	else
		r = archive_dst(n, &d, e);
	if (r < 0)
		return r;
	r = name_copy(n, &d->name);
	if (r < 0) {
		image_dst_close(d);
		return err_no_memory(e);
	}
	*ret = d;
	return 0;
}

void image_dst_close(struct image_dst *d)
{
	struct image_name name;

	if (d == NULL)
		return;
	name = d->name;
	d->ops->close(d);
	image_name_done(&name);
}

int image_dst_has(struct image_dst *d, const struct image_desc *b,
		  struct err *e)
{
	return d->ops->has(d, b, e);
}

int image_dst_put(struct image_dst *d, const struct image_desc *b, int fd,
		  void (*progress)(void *arg, uint64_t bytes), void *arg,
		  struct err *e)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_set(e, -errno, "fstat: %s", err_name(errno));
	if ((uint64_t)st.st_size < b->size)
		return err_set(e, -EBADMSG,
			       "blob is shorter than it should be");
	return d->ops->put(d, b, fd, progress, arg, e);
}

static int spool(struct image_src *s, const struct image_desc *b, int fd,
		 uint64_t *ret_size, struct err *e)
{
	CLEANUP(image_read_close_cleanup) struct image_read *in = NULL;
	CLEANUP_FREE char *p = malloc(COPY_BYTES);
	uint64_t size = 0;
	int r = image_src_blob(s, b, &in, e);

	if (r < 0)
		return r;
	if (p == NULL)
		return err_no_memory(e);
	for (;;) {
		ssize_t n = image_read_some(in, p, COPY_BYTES, e);

		if (n < 0)
			return (int)n;
		if (n == 0)
			break;
		r = io_write_all(fd, p, (size_t)n);
		if (r < 0)
			return err_set(e, r, "temporary file: %s", err_name(r));
		size += (uint64_t)n;
	}
	*ret_size = size;
	return 0;
}

int image_dst_copy(struct image_dst *d, struct image_src *s,
		   const struct image_desc *b,
		   void (*progress)(void *arg, uint64_t bytes), void *arg,
		   struct err *e)
{
	CLEANUP_CLOSE int fd = -EBADF;
	struct image_desc whole = *b;
	int r = d->ops->has(d, b, e);

	if (r == 0 && d->ops->mount != NULL &&
	    s->name.transport == d->name.transport)
		r = d->ops->mount(d, s, b, e);
	if (r != 0)
		return r < 0 ? r : 0;
	fd = io_open_temp(NULL, e);
	if (fd < 0)
		return fd;
	r = spool(s, b, fd, &whole.size, e);
	if (r < 0)
		return r;
	return d->ops->put(d, &whole, fd, progress, arg, e);
}

int image_dst_document(struct image_dst *d, const struct image_desc *b,
		       const void *doc, struct err *e)
{
	int r = check(b, doc, b->size, e);

	return r < 0 ? r : d->ops->document(d, b, doc, e);
}

int image_dst_commit(struct image_dst *d, const struct image_desc *root,
		     const void *doc, struct err *e)
{
	int r = check(root, doc, root->size, e);

	assert(!d->committed);
	if (r == 0)
		r = d->ops->commit(d, root, doc, e);
	d->committed = r == 0;
	return r;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What cli/image/ can do, one thing at a time:
 *   imgctl [-p] [-d HOSTS_DIR] [-c DOCKER_CONFIG] COMMAND…
 *   copy SRC DST            an image or an index with all that it names
 *   cat SRC DIGEST SIZE     a blob (SIZE 0: not known)
 *   cats SRC DIGEST SIZE N  the same N times at once, a thread each; all must
 *                           be equal, the first one is printed
 *   range SRC DIGEST SIZE OFF N   OFF "end": the last N bytes
 *   put DST FILE            a blob
 *   refer SRC DST TYPE FILE copies an image and attaches a file to it
 *   referrer SRC TYPE       prints what is attached
 *   root SRC                the document that the name points to
 */
#include "config.h"

#include <fcntl.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/image/doc.h"
#include "cli/image/image.h"
#include "cli/image/manifest.h"
#include "common/io.h"
#include "common/limits.h"

#define THREADS_MAX 16
#define BLOB_MAX MIB(1024)

static struct image_opts opts;

static int open_src(const char *s, struct image_src **ret, struct err *e)
{
	CLEANUP_IMAGE_NAME struct image_name n = {0};
	int r = image_name_parse(s, &n, e);

	return r < 0 ? r : image_src_open(&n, &opts, ret, e);
}

static int open_dst(const char *s, struct image_dst **ret, struct err *e)
{
	CLEANUP_IMAGE_NAME struct image_name n = {0};
	int r = image_name_parse(s, &n, e);

	return r < 0 ? r : image_dst_open(&n, &opts, ret, e);
}

/* Told once for each blob, where PROGRESS is set. */
static void progress(void *arg, uint64_t bytes)
{
	if (getenv("PROGRESS") != NULL)
		(void)fprintf(stderr, "progress %s %" PRIu64 "\n",
			      (const char *)arg, bytes);
}

static int copy_blob(struct image_src *s, struct image_dst *d,
		     const struct image_desc *b, struct err *e)
{
	char name[DIGEST_STR_BYTES];

	return image_dst_copy(d, s, b, progress, digest_str(&b->digest, name),
			      e);
}

/* @desc, @doc: of the manifest, and then of what it became. */
static int copy_image(struct image_src *s, struct image_dst *d,
		      struct image_desc *desc, struct buf *doc, bool oci,
		      struct err *e)
{
	CLEANUP_BUF struct buf config = BUF_INIT(MANIFEST_BYTES_MAX);
	CLEANUP_MANIFEST struct manifest m = {0};
	int r = manifest_load(s, desc, doc->p, doc->len, &m, e);

	for (size_t i = 0; r == 0 && i < m.n_layers; i++)
		r = copy_blob(s, d, &m.layers[i].desc, e);
	if (r < 0)
		return r;
	buf_clear(doc);
	r = manifest_finish(&m, oci, &config, doc);
	if (r == 0)
		r = image_dst_document(d, &m.config_desc, config.p, e);
	image_desc_done(desc);
	return r == 0 ? image_desc_copy(&m.desc, desc) : r;
}

/* What is no image: a manifest with blobs of any kind. */
static int copy_other(struct image_src *s, struct image_dst *d,
		      const struct buf *doc, struct err *e)
{
	CLEANUP_DOC struct json_object *o = NULL;
	int r = doc_parse(doc->p, doc->len, "manifest", &o, e);
	struct json_object *list = r == 0 ? doc_array(o, "layers") : NULL;
	size_t n = list != NULL ? json_object_array_length(list) : 0;

	for (size_t i = 0; r == 0 && i <= n; i++) {
		CLEANUP(image_desc_done) struct image_desc b = {0};

		r = doc_desc(i < n ? json_object_array_get_idx(list, i)
				   : doc_object(o, "config"),
			     "manifest", &b, e);
		if (r == 0)
			r = copy_blob(s, d, &b, e);
	}
	return r;
}

static int copy_index(struct image_src *s, struct image_dst *d,
		      struct image_desc *desc, struct buf *doc, bool oci,
		      struct err *e)
{
	CLEANUP_INDEX struct index x = {0};
	int r = index_load(desc, doc->p, doc->len, &x, e);

	for (size_t i = 0; r == 0 && i < x.n; i++) {
		CLEANUP_BUF struct buf m = BUF_INIT(MANIFEST_BYTES_MAX);
		CLEANUP(image_desc_done) struct image_desc one = {0};

		r = image_desc_copy(&x.images[i].desc, &one);
		if (r == 0)
			r = image_src_document(s, &one, &m, e);
		if (r == 0)
			r = x.images[i].skip
				    ? copy_other(s, d, &m, e)
				    : copy_image(s, d, &one, &m, oci, e);
		if (r == 0)
			r = image_dst_document(d, &one, m.p, e);
		if (r == 0)
			r = index_set(&x, i, &one);
	}
	if (r < 0)
		return r;
	buf_clear(doc);
	image_desc_done(desc);
	r = index_finish(&x, oci, doc);
	return r == 0 ? image_desc_copy(&x.desc, desc) : r;
}

/* A layout has no types of docker. */
static bool to_oci(const char *name)
{
	return strncmp(name, "oci:", 4) == 0 ||
	       strncmp(name, "oci-archive:", 12) == 0;
}

/* @v: SRC and DST. What SRC cannot give is found out before DST is there. */
static int copy(char **v, struct image_dst **ret, struct image_desc *root,
		struct err *e)
{
	CLEANUP(image_src_close_cleanup) struct image_src *s = NULL;
	CLEANUP_BUF struct buf doc = BUF_INIT(MANIFEST_BYTES_MAX);
	int r = open_src(v[0], &s, e);

	if (r == 0)
		r = image_src_root(s, root, &doc, e);
	if (r == 0)
		r = open_dst(v[1], ret, e);
	if (r == 0 && media_type_is_index(root->media_type))
		r = copy_index(s, *ret, root, &doc, to_oci(v[1]), e);
	else if (r == 0)
		r = copy_image(s, *ret, root, &doc, to_oci(v[1]), e);
	return r == 0 ? image_dst_commit(*ret, root, doc.p, e) : r;
}

static int do_copy(char **v, struct err *e)
{
	CLEANUP(image_dst_close_cleanup) struct image_dst *d = NULL;
	CLEANUP(image_desc_done) struct image_desc root = {0};

	return copy(v, &d, &root, e);
}

static int desc_of(const char *digest, const char *size, struct image_desc *ret,
		   struct err *e)
{
	ret->size = strtoull(size, NULL, 10);
	if (digest_parse(digest, strlen(digest), &ret->digest) < 0)
		return err_set(e, -EINVAL, "bad digest");
	return 0;
}

struct reader {
	struct image_src *s;
	const struct image_desc *d;
	pthread_t thread;
	struct buf got;
	struct err e;
	int r;
};

static void *reader(void *arg)
{
	struct reader *t = arg;
	CLEANUP(image_read_close_cleanup) struct image_read *in = NULL;
	char block[7001];
	ssize_t n = 1;

	t->r = image_src_blob(t->s, t->d, &in, &t->e);
	while (t->r == 0 && n > 0) {
		n = image_read_some(in, block, sizeof(block), &t->e);
		t->r = n < 0 ? (int)n : buf_add(&t->got, block, (size_t)n);
	}
	return NULL;
}

static int do_cats(char **v, struct err *e)
{
	CLEANUP(image_src_close_cleanup) struct image_src *s = NULL;
	struct reader t[THREADS_MAX] = {0};
	struct image_desc d = {0};
	size_t n = v[3] != NULL ? strtoul(v[3], NULL, 10) : 1;
	int r = open_src(v[0], &s, e);

	if (r == 0)
		r = desc_of(v[1], v[2], &d, e);
	if (r < 0)
		return r;
	n = MIN(MAX(n, 1u), (size_t)THREADS_MAX);
	for (size_t i = 0; i < n; i++) {
		t[i] = (struct reader){
			.s = s, .d = &d, .got = BUF_INIT(BLOB_MAX)};
		if (pthread_create(&t[i].thread, NULL, reader, &t[i]) != 0)
			abort();
	}
	for (size_t i = 0; i < n; i++)
		(void)pthread_join(t[i].thread, NULL);
	for (size_t i = 0; r == 0 && i < n; i++) {
		if (t[i].r < 0)
			r = err_set(e, t[i].r, "%s", t[i].e.text);
		else if (t[i].got.len != t[0].got.len ||
			 memcmp(t[i].got.p, t[0].got.p, t[0].got.len) != 0)
			r = err_set(e, -EBADMSG, "readers differ");
	}
	if (r == 0)
		(void)fwrite(t[0].got.p, 1, t[0].got.len, stdout);
	for (size_t i = 0; i < n; i++)
		buf_done(&t[i].got);
	return r;
}

static int do_cat(char **v, struct err *e)
{
	char *w[] = {v[0], v[1], v[2], NULL};

	return do_cats(w, e);
}

static int do_range(char **v, struct err *e)
{
	CLEANUP(image_src_close_cleanup) struct image_src *s = NULL;
	CLEANUP_BUF struct buf b = BUF_INIT(BLOB_MAX);
	struct image_desc d = {0};
	uint64_t size = 0, off = UINT64_MAX;
	int r = open_src(v[0], &s, e);

	if (strcmp(v[3], "end") != 0)
		off = strtoull(v[3], NULL, 10);
	if (r == 0)
		r = desc_of(v[1], v[2], &d, e);
	if (r == 0)
		r = image_src_range(s, &d, off, strtoul(v[4], NULL, 10), &b,
				    &size, e);
	if (r == 0 && b.len > 0)
		(void)fwrite(b.p, 1, b.len, stdout);
	return r;
}

static int do_put(char **v, struct err *e)
{
	CLEANUP(image_dst_close_cleanup) struct image_dst *d = NULL;
	CLEANUP_CLOSE int fd = open(v[1], O_RDONLY | O_CLOEXEC);
	CLEANUP_BUF struct buf b = BUF_INIT(BLOB_MAX);
	struct image_desc desc = {0};
	char name[DIGEST_STR_BYTES];
	int r = open_dst(v[0], &d, e);

	if (r == 0)
		r = io_read_file(AT_FDCWD, v[1], &b);
	if (r == 0)
		r = doc_digest(b.p, b.len, &desc.digest);
	desc.size = b.len;
	if (r == 0)
		r = image_dst_put(d, &desc, fd, progress,
				  digest_str(&desc.digest, name), e);
	return r;
}

static int do_refer(char **v, struct err *e)
{
	CLEANUP(image_dst_close_cleanup) struct image_dst *d = NULL;
	CLEANUP(image_desc_done) struct image_desc root = {0};
	CLEANUP(image_desc_done) struct image_desc b = {0};
	CLEANUP_BUF struct buf doc = BUF_INIT(MANIFEST_BYTES_MAX);
	int r = copy(v, &d, &root, e);

	if (r == 0)
		r = io_read_file(AT_FDCWD, v[3], &doc);
	if (r == 0)
		r = doc_describe(v[2], doc.p, doc.len, &b);
	return r == 0 ? image_dst_refer(d, &root, v[2], &b, doc.p, e) : r;
}

static int do_root(char **v, struct err *e)
{
	CLEANUP(image_src_close_cleanup) struct image_src *s = NULL;
	CLEANUP(image_desc_done) struct image_desc root = {0};
	CLEANUP_BUF struct buf doc = BUF_INIT(MANIFEST_BYTES_MAX);
	int r = open_src(v[0], &s, e);

	if (r == 0)
		r = image_src_root(s, &root, &doc, e);
	if (r == 0)
		(void)fwrite(doc.p, 1, doc.len, stdout);
	return r;
}

static int do_referrer(char **v, struct err *e)
{
	CLEANUP(image_src_close_cleanup) struct image_src *s = NULL;
	CLEANUP(image_desc_done) struct image_desc root = {0};
	CLEANUP_BUF struct buf doc = BUF_INIT(MANIFEST_BYTES_MAX);
	CLEANUP_BUF struct buf b = BUF_INIT(BLOB_MAX);
	int r = open_src(v[0], &s, e);

	if (r == 0)
		r = image_src_root(s, &root, &doc, e);
	if (r == 0)
		r = image_src_referrer(s, &root, v[1], &b, e);
	if (r == 0)
		(void)fwrite(b.p, 1, b.len, stdout);
	return r;
}

static const struct {
	const char *name;
	int n_args;
	int (*fn)(char **v, struct err *e);
} commands[] = {
	{"copy", 2, do_copy}, {"cat", 3, do_cat},
	{"cats", 4, do_cats}, {"range", 5, do_range},
	{"put", 2, do_put},   {"refer", 4, do_refer},
	{"root", 1, do_root}, {"referrer", 2, do_referrer},
};

int main(int argc, char **argv)
{
	struct err e = {0};
	int c, r;

	while ((c = getopt(argc, argv, "pd:c:")) != -1) {
		if (c == 'p')
			opts.plain_http = true;
		else if (c == 'd')
			opts.hosts_dir = optarg;
		else if (c == 'c')
			opts.docker_config = optarg;
		else
			return 2;
	}
	for (size_t i = 0; i < ARRAY_SIZE(commands) && optind < argc; i++) {
		if (strcmp(argv[optind], commands[i].name) != 0 ||
		    argc - optind - 1 != commands[i].n_args)
			continue;
		r = commands[i].fn(argv + optind + 1, &e);
		if (r == 0)
			return EXIT_SUCCESS;
		(void)fprintf(stderr, "imgctl: %s\n",
			      e.code != 0 ? e.text : err_name(r));
		return EXIT_FAILURE;
	}
	(void)fputs("imgctl: what?\n", stderr);
	return 2;
}

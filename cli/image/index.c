/* SPDX-License-Identifier: Apache-2.0 */
/* Platforms, and indexes of images for several of them: of manifest.h. */
#include "config.h"

#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "cli/image/doc.h"
#include "cli/image/manifest.h"
#include "common/limits.h"

/* ---- platforms --------------------------------------------------------- */

/* Other names of the same, as containerd's platforms package has them. */
static void normalize(struct platform *p)
{
	static const struct {
		const char *arch, *variant; /* variant NULL: any */
		const char *to, *to_variant;
	} same[] = {
		{"x86_64", NULL, "amd64", NULL},
		{"x86-64", NULL, "amd64", NULL},
		{"i386", NULL, "386", ""},
		{"aarch64", NULL, "arm64", NULL},
		{"armhf", NULL, "arm", "v7"},
		{"armel", NULL, "arm", "v6"},
		{"amd64", "v1", "amd64", ""},
		{"arm64", "8", "arm64", ""},
		{"arm64", "v8", "arm64", ""},
		{"arm", "", "arm", "v7"},
		{"arm", "7", "arm", "v7"},
		{"arm", "5", "arm", "v5"},
		{"arm", "6", "arm", "v6"},
		{"arm", "8", "arm", "v8"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(same); i++) {
		if (strcmp(p->arch, same[i].arch) != 0 ||
		    (same[i].variant != NULL &&
		     strcmp(p->variant, same[i].variant) != 0))
			continue;
		(void)snprintf(p->arch, sizeof(p->arch), "%s", same[i].to);
		if (same[i].to_variant != NULL)
			(void)snprintf(p->variant, sizeof(p->variant), "%s",
				       same[i].to_variant);
	}
}

static bool part_ok(const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		char c = s[i];

		if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') &&
		    c != '_' && c != '-' && c != '.')
			return false;
	}
	return n > 0 && n < sizeof(((struct platform *)0)->os);
}

int platform_parse(const char *s, struct platform *ret, struct err *e)
{
	struct platform p = {0};
	char *const parts[] = {p.os, p.arch, p.variant};
	const char *at = s;

	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		size_t n = strcspn(at, "/");

		if (!part_ok(at, n) || (i == 2 && at[n] != '\0'))
			break;
		memcpy(parts[i], at, n);
		at += n;
		if (*at == '\0' && i > 0) {
			normalize(&p);
			*ret = p;
			return 0;
		}
		at += *at == '/';
	}
	return err_set(e, -EINVAL,
		       "%.80s: not OS/ARCHITECTURE[/VARIANT], as linux/arm64 "
		       "is",
		       s);
}

void platform_here(struct platform *ret)
{
	*ret = (struct platform){.os = "linux"};
	(void)snprintf(ret->arch, sizeof(ret->arch), "%s", oci_arch());
	normalize(ret);
}

/* "v7" and "" as numbers: those of one architecture compare. */
static int variant_rank(const char *variant)
{
	if (variant[0] == 'v' && variant[1] >= '0' && variant[1] <= '9' &&
	    variant[2] == '\0')
		return variant[1] - '0';
	return variant[0] == '\0' ? 0 : -1;
}

/* How well an image's platform fits: 0 not at all, more is better. */
static int fit(const struct platform *image, const struct platform *want)
{
	int has = variant_rank(image->variant);

	if (strcmp(image->os, want->os) != 0 ||
	    strcmp(image->arch, want->arch) != 0)
		return 0;
	if (strcmp(image->variant, want->variant) == 0)
		return 100;
	if (has < 0 || has > variant_rank(want->variant))
		return 0;
	return 1 + has;
}

/* ---- indexes ----------------------------------------------------------- */

void index_done(struct index *x)
{
	for (size_t i = 0; i < x->n; i++)
		image_desc_done(&x->images[i].desc);
	free(x->images);
	image_desc_done(&x->desc);
	(void)json_object_put(x->json);
	buf_done(&x->text);
	*x = (struct index){0};
}

static bool platform_load(struct json_object *o, struct platform *ret)
{
	const char *os = doc_str(o, "os"), *arch = doc_str(o, "architecture");
	const char *variant = doc_str(o, "variant");
	struct platform p = {0};

	if (os == NULL || arch == NULL || !part_ok(os, strlen(os)) ||
	    !part_ok(arch, strlen(arch)) ||
	    (variant != NULL && variant[0] != '\0' &&
	     !part_ok(variant, strlen(variant))))
		return false;
	(void)snprintf(p.os, sizeof(p.os), "%s", os);
	(void)snprintf(p.arch, sizeof(p.arch), "%s", arch);
	(void)snprintf(p.variant, sizeof(p.variant), "%s",
		       variant != NULL ? variant : "");
	normalize(&p);
	*ret = p;
	return true;
}

static int image_load(struct json_object *o, size_t i, struct index_image *im,
		      struct err *e)
{
	char what[64];
	const char *type;
	int r;

	(void)snprintf(what, sizeof(what), "index: manifest %zu", i);
	r = doc_desc(o, what, &im->desc, e);
	if (r < 0)
		return r;
	im->has_platform =
		platform_load(doc_object(o, "platform"), &im->platform);
	type = im->desc.media_type;
	im->skip =
		(im->has_platform && strcmp(im->platform.os, "unknown") == 0) ||
		doc_annotation(o, "vnd.docker.reference.type") != NULL ||
		doc_str(o, "artifactType") != NULL ||
		(type != NULL && strcmp(type, OCI_MANIFEST) != 0 &&
		 strcmp(type, DOCKER_MANIFEST) != 0);
	return 0;
}

static int load(const char *doc, size_t len, struct index *x, struct err *e)
{
	struct json_object *list, *version;
	size_t n;
	int r = doc_parse(doc, len, "index", &x->json, e);

	if (r < 0)
		return r;
	if (!json_object_object_get_ex(x->json, "schemaVersion", &version) ||
	    !json_object_is_type(version, json_type_int) ||
	    json_object_get_int(version) != 2)
		return err_set(e, -EBADMSG, "index: no schemaVersion 2");
	if (json_object_object_get_ex(x->json, "layers", NULL) ||
	    json_object_object_get_ex(x->json, "config", NULL))
		return err_set(e, -EBADMSG,
			       "index: it has manifests and layers");
	list = doc_array(x->json, "manifests");
	if (list == NULL)
		return err_set(e, -EBADMSG, "index: no manifests");
	n = json_object_array_length(list);
	if (n > INDEX_IMAGES_MAX)
		return err_set(e, -EOVERFLOW, "index: %zu manifests", n);
	x->images = calloc(n + 1, sizeof(*x->images));
	if (x->images == NULL)
		return err_no_memory(e);
	for (size_t i = 0; i < n; i++) {
		x->n = i + 1;
		r = image_load(json_object_array_get_idx(list, i), i,
			       &x->images[i], e);
		if (r < 0)
			return r;
	}
	r = buf_add(&x->text, doc, len);
	return r < 0 ? err_set(e, r, "index: %s", err_name(r)) : 0;
}

int index_load(const struct image_desc *desc, const char *doc, size_t len,
	       struct index *ret, struct err *e)
{
	struct index x = {.text = BUF_INIT(MANIFEST_BYTES_MAX)};
	int r = image_desc_copy(desc, &x.desc);

	if (r < 0)
		(void)err_no_memory(e);
	else
		r = load(doc, len, &x, e);
	if (r < 0) {
		index_done(&x);
		return r;
	}
	*ret = x;
	return 0;
}

static void add_platform(struct buf *b, const struct platform *p)
{
	(void)buf_addf(b, "%s%s/%s%s%s", b->len > 0 ? ", " : "", p->os, p->arch,
		       p->variant[0] != '\0' ? "/" : "", p->variant);
}

ssize_t index_find(const struct index *x, const struct platform *p,
		   struct err *e)
{
	CLEANUP_BUF struct buf have = BUF_INIT(128), want = BUF_INIT(128);
	size_t best = 0, n_plain = 0, plain = 0;
	int best_fit = 0;

	for (size_t i = 0; i < x->n; i++) {
		const struct index_image *im = &x->images[i];
		int f = im->has_platform ? fit(&im->platform, p) : 0;

		if (im->skip || im->dropped)
			continue;
		if (f > best_fit) {
			best = i;
			best_fit = f;
		}
		if (im->has_platform) {
			add_platform(&have, &im->platform);
			continue;
		}
		plain = i;
		n_plain++;
	}
	if (best_fit > 0)
		return (ssize_t)best;
	/* The only one of an index that does not say what it is for. */
	if (n_plain == 1 && have.len == 0)
		return (ssize_t)plain;
	add_platform(&want, p);
	return err_set(e, -ENOENT, "no image for %s: there is %s",
		       want.p != NULL ? want.p : "",
		       have.len > 0 ? have.p : "none");
}

static struct json_object *image_json(const struct index *x, size_t i)
{
	return json_object_array_get_idx(doc_array(x->json, "manifests"), i);
}

/* What is about an image: follows it, or goes with it. */
static int follow(struct index *x, const char *old, const char *new_)
{
	static const char key[] = "vnd.docker.reference.digest";

	for (size_t i = 0; i < x->n; i++) {
		const char *of = doc_annotation(image_json(x, i), key);
		int r;

		if (of == NULL || strcmp(of, old) != 0)
			continue;
		if (new_ == NULL) {
			x->images[i].dropped = true;
			continue;
		}
		r = doc_annotate(image_json(x, i), key, new_);
		if (r < 0)
			return r;
	}
	return 0;
}

int index_set(struct index *x, size_t i, const struct image_desc *new_)
{
	char was[DIGEST_STR_BYTES], is[DIGEST_STR_BYTES];
	struct image_desc d;
	int r;

	assert(i < x->n);
	(void)digest_str(&x->images[i].desc.digest, was);
	x->changed = true;
	if (new_ == NULL) {
		x->images[i].dropped = true;
		return follow(x, was, NULL);
	}
	r = doc_desc_set(image_json(x, i), new_);
	if (r == 0)
		r = follow(x, was, digest_str(&new_->digest, is));
	if (r == 0)
		r = image_desc_copy(new_, &d);
	if (r < 0)
		return r;
	image_desc_done(&x->images[i].desc);
	x->images[i].desc = d;
	return 0;
}

int index_finish(struct index *x, bool oci, struct buf *ret)
{
	struct json_object *list = doc_array(x->json, "manifests");
	const char *type = doc_str(x->json, "mediaType");
	size_t start = ret->len;
	struct image_desc d;
	int r = 0;

	/* From the end, so that the numbers stay right. */
	for (size_t i = x->n; i > 0; i--) {
		if (x->images[i - 1].dropped)
			(void)json_object_array_del_idx(list, i - 1, 1);
	}
	if (oci && type != NULL && strcmp(type, DOCKER_LIST) == 0) {
		r = doc_set_str(x->json, "mediaType", OCI_INDEX);
		x->changed = true;
	}
	if (r == 0)
		r = x->changed ? doc_print(x->json, ret)
			       : buf_add(ret, x->text.p, x->text.len);
	if (r == 0)
		r = doc_describe(doc_media_type(x->json), ret->p + start,
				 ret->len - start, &d);
	if (r < 0)
		return r;
	image_desc_done(&x->desc);
	x->desc = d;
	return 0;
}

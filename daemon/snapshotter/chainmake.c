/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "daemon/snapshotter/chainmake.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

#include "common/layerdir.h"
#include "daemon/snapshotter/metaproc.h"

struct making {
	const char *estargzfs;
	const char *root;
	const struct chainfile *of;
	const struct digest *key;
};

/* The files of a layer's index. Return: 0, -errno with @e */
static int open_layer(const struct making *m, const struct digest *toc,
		      struct meta_files *ret, struct err *e)
{
	CLEANUP_FREE char *path =
		layerdir_path(m->root, toc, m->of->opaque_user, false);
	CLEANUP_CLOSE int dir = -EBADF;

	if (path == NULL)
		return err_no_memory(e);
	dir = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir >= 0)
		ret->erofs = openat(dir, "layer.erofs",
				    O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (ret->erofs >= 0)
		ret->chunks = openat(dir, "chunks",
				     O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	return ret->chunks < 0
		       ? err_set(e, -errno, "%s: %s", path, err_name(errno))
		       : 0;
}

/* Whatever that process is made to do, it does it to the memory behind @out. */
static int merge_layers(const struct making *m, int out, struct err *e)
{
	struct meta_files files[META_LAYERS_MAX];
	struct metaproc p;
	int r = 0;

	for (size_t i = 0; i < m->of->n; i++)
		files[i] = (struct meta_files){-1, -1, -1};
	for (size_t i = 0; i < m->of->n && r == 0; i++)
		r = open_layer(m, &m->of->tocs[i], &files[i], e);
	if (r == 0)
		r = metaproc_start(m->estargzfs, &p, e);
	if (r == 0) {
		r = meta_merge(p.sock, out, files, m->of->n, m->of->opaque_user,
			       m->key, e);
		metaproc_end(&p);
	}
	for (size_t i = 0; i < m->of->n; i++) {
		if (files[i].erofs >= 0)
			(void)close(files[i].erofs);
		if (files[i].chunks >= 0)
			(void)close(files[i].chunks);
	}
	return r;
}

static int look_through(const struct making *m, int image, struct err *e)
{
	struct metaproc p;
	int r = metaproc_start(m->estargzfs, &p, e);

	if (r < 0)
		return r;
	r = meta_check_chain(p.sock, image, m->key, e);
	metaproc_end(&p);
	return r;
}

int chainmake(const char *estargzfs, const char *root, const char *dir,
	      const struct chainfile *of, const struct digest *key,
	      struct err *e)
{
	const struct making m = {
		.estargzfs = estargzfs, .root = root, .of = of, .key = key};
	CLEANUP_CLOSE int image =
		memfd_create("chain", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int r;

	if (image < 0)
		return err_set(e, -errno, "memfd: %s", err_name(errno));
	r = merge_layers(&m, image, e);
	if (r < 0)
		return r;
	/* What is looked through is what is written. */
	if (fcntl(image, F_ADD_SEALS,
		  F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
		return err_set(e, -errno, "memfd: seals: %s", err_name(errno));
	r = look_through(&m, image, e);
	return r < 0 ? r : chainfile_write(dir, image, of, e);
}

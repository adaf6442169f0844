/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "cli/build/spool.h"

#include <fcntl.h>
#include <stdio.h>

#include "common/buf.h"

/* For file systems without O_TMPFILE. */
static int named(const char *dir, struct err *e)
{
	CLEANUP_BUF struct buf path = BUF_INIT(KIB(8));
	int fd;

	if (buf_addf(&path, "%s/estargz.XXXXXX", dir) < 0)
		return err_set(e, -ENAMETOOLONG, "%.80s", dir);
	fd = mkostemp(path.p, O_CLOEXEC);
	if (fd < 0)
		return err_set(e, -errno, "%s: %s", path.p, err_name(errno));
	(void)unlink(path.p);
	return fd;
}

int spool_open(const char *dir, struct err *e)
{
	int fd;

	if (dir == NULL)
		dir = getenv("TMPDIR");
	if (dir == NULL || dir[0] == '\0')
		dir = "/var/tmp";
	fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd >= 0)
		return fd;
	if (errno == EOPNOTSUPP || errno == EISDIR)
		return named(dir, e);
	return err_set(e, -errno, "%s: no temporary file there: %s", dir,
		       err_name(errno));
}

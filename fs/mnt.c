/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "fs/mnt.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "common/buf.h"
#include "common/io.h"
#define LOG_MOD "mnt"
#include "common/log.h"

/* Of the 1 MiB that the kernel reads ahead a quarter: what one fill thread has just
 * decoded (FILL_GROUP_BYTES) then mostly holds all that a request wants, and is the
 * answer without being read back. */
#define MAX_READ "262144"
#define NOTIFY_RESEND 7

/* Which device is mounted at the target. AT_STATX_DONT_SYNC asks the kernel
 * only, never our worker. */
static int target_device(const struct mnt *m, uint32_t *ret_major,
			 uint32_t *ret_minor)
{
	struct statx sx;

	if (statx(AT_FDCWD, m->target, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT,
		  STATX_TYPE, &sx) < 0)
		return -errno;
	*ret_major = sx.stx_dev_major;
	*ret_minor = sx.stx_dev_minor;
	return 0;
}

int mnt_make(struct mnt *m, const char *source, unsigned long flags,
	     struct err *e)
{
	char data[128];
	struct sup_session *s = &m->session;
	uint32_t major = 0, minor = 0;
	ssize_t n;

	m->fuse_fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (m->fuse_fd < 0)
		return err_set(e, -errno, "/dev/fuse: %s", err_name(errno));
	(void)snprintf(data, sizeof(data),
		       "fd=%d,rootmode=40000,user_id=0,group_id=0,"
		       "default_permissions,allow_other,max_read=" MAX_READ,
		       m->fuse_fd);
	if (mount(source, m->target, "fuse.estargz", flags, data) < 0)
		return err_set(e, -errno, "cannot mount on %s: %s", m->target,
			       err_name(errno));
	m->mounted = true;
	(void)target_device(m, &major, &minor);
	s->dev_major = major;
	s->dev_minor = minor;
	/* The kernel has put INIT into the queue while mounting. It must be
	 * read with room for the largest request. */
	{
		CLEANUP_FREE uint8_t *p = malloc(FUSE_MIN_READ_BUFFER);

		n = p != NULL ? read(m->fuse_fd, p, FUSE_MIN_READ_BUFFER) : -1;
		if (n < (ssize_t)sizeof(struct fuse_in_header) ||
		    (size_t)n > sizeof(s->init))
			return err_set(e, -EIO, "/dev/fuse: no INIT request");
		memcpy(s->init, p, (size_t)n);
		s->init_len = (uint32_t)n;
	}
	return 0;
}

void mnt_set_read_ahead(const struct mnt *m, unsigned kb)
{
	CLEANUP_CLOSE int fd = -EBADF;
	char path[96], text[16];

	(void)snprintf(text, sizeof(text), "%u", kb);

	(void)snprintf(path, sizeof(path), "/sys/class/bdi/%u:%u/read_ahead_kb",
		       m->session.dev_major, m->session.dev_minor);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd >= 0 && write(fd, text, strlen(text)) < 0)
		log_debug("msg=\"read_ahead_kb stays as it is\"");
}

void mnt_detach(struct mnt *m)
{
	uint32_t major, minor;

	if (!m->mounted || target_device(m, &major, &minor) < 0 ||
	    major != m->session.dev_major || minor != m->session.dev_minor)
		return;
	(void)umount2(m->target, MNT_DETACH);
	m->mounted = false;
}

/* Whether nobody waits for an answer on this connection, as fusectl says. */
static bool nobody_waits(const struct mnt *m)
{
	CLEANUP_BUF struct buf b = BUF_INIT(64);
	char path[96];

	(void)snprintf(path, sizeof(path),
		       "/sys/fs/fuse/connections/%u/waiting",
		       m->session.dev_minor);
	return io_read_file(AT_FDCWD, path, &b) == 0 && b.p != NULL &&
	       strtoul(b.p, NULL, 10) == 0;
}

int mnt_resend(const struct mnt *m)
{
	const struct fuse_out_header resend = {
		.len = sizeof(resend),
		.error = NOTIFY_RESEND,
	};

	if (write(m->fuse_fd, &resend, sizeof(resend)) >= 0 || nobody_waits(m))
		return 0;
	/* Linux before 6.9. Who waits would wait for ever, unkillably; an
	 * aborted connection gives them an error. */
	log_err("err=%s msg=\"kernel cannot send again what was in flight: the "
		"mount is aborted\"",
		err_symbol(errno));
	return -EIO;
}

void mnt_close(struct mnt *m)
{
	if (m->fuse_fd >= 0)
		(void)close(TAKE_FD(m->fuse_fd));
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "common/seal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <time.h>

#include "common/io.h"

#define SEALED 0400
#define PAUSE_NS (10 * NSEC_PER_MSEC)

bool seal_is_set(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && (st.st_mode & 0222) == 0;
}

int seal_set(int fd)
{
	if (seal_is_set(fd))
		return 0;
	return fchmod(fd, SEALED) < 0 ? -errno : 0;
}

int seal_hold(int fd, unsigned wait_ms, struct err *e)
{
	const struct timespec pause = {.tv_nsec = PAUSE_NS};
	uint64_t until = io_now_ns() + wait_ms * NSEC_PER_MSEC;
	int r;

	/* Who comes meanwhile has us told by a signal that does nothing. */
	(void)fcntl(fd, F_SETSIG, SIGURG);
	while ((r = fcntl(fd, F_SETLEASE, F_RDLCK) < 0 ? -errno : 0) ==
		       -EAGAIN &&
	       io_now_ns() < until)
		(void)nanosleep(&pause, NULL);
	if (r == -EAGAIN)
		return err_set(e, -EBUSY, "is open for writing");
	return r < 0 ? err_set(e, r, "cannot be kept from being written to: %s",
			       err_name(r))
		     : 0;
}

bool seal_holds(int fd)
{
	return fcntl(fd, F_GETLEASE) == F_RDLCK;
}

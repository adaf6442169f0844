/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "fs/oom.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "common/buf.h"
#include "common/io.h"

#define PATH "/proc/self/oom_score_adj"

void oom_get(struct oom *ret)
{
	CLEANUP_BUF struct buf b = BUF_INIT(sizeof(ret->adj));

	*ret = (struct oom){0};
	if (io_read_file(AT_FDCWD, PATH, &b) == 0 && b.p != NULL)
		(void)snprintf(ret->adj, sizeof(ret->adj), "%s", b.p);
}

void oom_set(const char *adj)
{
	CLEANUP_CLOSE int fd = open(PATH, O_WRONLY | O_CLOEXEC);

	if (fd >= 0 && write(fd, adj, strlen(adj)) < 0)
		return;
}

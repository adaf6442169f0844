/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "fs/layer.h"

void layer_done(struct layer *l)
{
	free(l->source);
	free(l->open_name);
	free(l->wanted);
	if (l->blob_fd >= 0)
		(void)close(l->blob_fd);
	*l = (struct layer){.blob_fd = -1};
}

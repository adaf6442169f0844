/* SPDX-License-Identifier: Apache-2.0 */
/* What systemd and its services say to each other: sd_listen_fds(3) and
 * sd_notify(3), without its library. */
#ifndef COMMON_SYSTEMD_H
#define COMMON_SYSTEMD_H

#include "common/base.h"

/* The one socket that systemd has made for this process, -1 where there is none.
 * Takes what says so out of the environment: it is not for children. */
int systemd_socket(void);

/* "READY=1" and the like. Without systemd nothing happens. */
void systemd_notify(const char *state);

#endif

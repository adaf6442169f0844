# SPDX-License-Identifier: Apache-2.0
EXTRA_DIST += %D%/ARCHITECTURE.md
EXTRA_DIST += %D%/FORMAT.md
EXTRA_DIST += %D%/HACKING.md
EXTRA_DIST += %D%/PROTOCOL.md
dist_man_MANS += %D%/man/estargzd.8
dist_man_MANS += %D%/man/mount.estargz.8
dist_man_MANS += %D%/man/estargz.1

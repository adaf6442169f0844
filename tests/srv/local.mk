# SPDX-License-Identifier: Apache-2.0
EXTRA_DIST += %D%/srv.py %D%/push.py %D%/tokens.py

# SPDX-License-Identifier: Apache-2.0
EXTRA_DIST += %D%/srv.py %D%/push.py %D%/several.py %D%/tokens.py

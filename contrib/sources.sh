# SPDX-License-Identifier: Apache-2.0
# Sourced by the lint scripts: they run in the top of the tree; c_files and
# h_files are what is linted.
# shellcheck shell=sh
export LC_ALL=C
cd "$(dirname "$0")/.." || exit 1
c_files=$(find common fs daemon cli tests bench -name '*.c' -type f | sort)
h_files=$(find common fs daemon cli tests bench -name '*.h' -type f | sort)
bad=0

# complain FILE:LINE MESSAGE
complain() {
	echo "$1: $2"
	bad=1
}

#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Install what is missing, build, and show the main job: save, kill, reopen, restore, every byte checked.
set -euo pipefail
cd "$(dirname "$0")/.."
tools/setup.sh
cmake --preset release -DKVT_BUILD_TESTS=OFF >/dev/null
cmake --build --preset release
exec build-release/tools/kvtier demo "$@"

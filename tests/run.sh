#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Install what is missing, build, and run all tests: the release build with everything, a build with no optional part, and the
# sanitizers in their short form. `tests/run.sh quick` runs the release build only. KVT_CUDA=ON asks for nvcc.
set -euo pipefail
cd "$(dirname "$0")/.."
tools/setup.sh tests

run() { # preset, then arguments of cmake
    local preset=$1
    shift
    echo "== $preset"
    cmake --preset "$preset" -DKVT_BUILD_TESTS=ON "$@" >/dev/null # tools/demo.sh builds without
    cmake --build --preset "$preset" -- --quiet
}

run release -DKVT_CUDA="${KVT_CUDA:-AUTO}"
ctest --preset release
[ "${1:-}" = quick ] && exit 0

run asan
ctest --preset asan -LE slow
run tsan -DKVT_BUILD_TOOLS=OFF
build-tsan/tests/stress --seconds 10
run bare
ctest --preset bare -LE slow

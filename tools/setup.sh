#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Install what building and testing kvtier needs, on Debian 12 or a relative of it. Does nothing when all is there.
set -euo pipefail

packages=(build-essential cmake ninja-build pkg-config git liburing-dev librocksdb-dev libxxhash-dev libzstd-dev
          libssl-dev libjansson-dev)
[ "${1:-}" = tests ] && packages+=(libcriterion-dev fio)

as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo)

# 126 MB to fetch, 0.7 GiB installed: only to see that the kernels compile as HIP, and only where the distribution has it.
distribution_has() {
    apt-cache show "$1" >/dev/null 2>&1 && return
    "${as_root[@]}" apt-get update -qq >/dev/null 2>&1 && apt-cache show "$1" >/dev/null 2>&1
}
if [ "${1:-}" = tests ] && [ "${KVT_HIP:-AUTO}" != OFF ] && ! command -v hipcc >/dev/null; then
    if distribution_has hipcc; then
        packages+=(hipcc)
    else
        echo "setup: no hipcc in this distribution: the HIP build of the kernels is not checked here"
    fi
fi

missing=()
for package in "${packages[@]}"; do
    state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$state" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

if ! command -v apt-get >/dev/null; then
    echo "setup: this host has no apt-get; install by hand what these Debian packages hold: ${missing[*]}" >&2
    exit 1
fi
if [ "$(id -u)" -ne 0 ] && ! command -v sudo >/dev/null; then
    echo "setup: missing packages: ${missing[*]}; run this as root once, or install sudo" >&2
    exit 1
fi
echo "setup: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null

#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The HIP objects hold every kernel that the CUDA objects hold: the names of both, from the objects themselves.
#
#   tests/test_hip.sh CUDA_OBJECT HIP_OBJECT [CUDA_OBJECT HIP_OBJECT ...]
#   tests/test_hip.sh --prove ...      the same, and a kernel taken out of each list in turn must be missed
set -euo pipefail
export LC_ALL=C

prove=0
[ "${1:-}" = --prove ] && { prove=1; shift; }
[ $# -ge 2 ] && [ $(($# % 2)) -eq 0 ] || { echo "usage: test_hip.sh [--prove] CUDA_OBJECT HIP_OBJECT ..." >&2; exit 2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# One spelling for types that the two headers spell differently.
readable() { c++filt | sed -e 's/HIP_vector_type<unsigned int, 4u>/uint4/g' -e 's/ \[clone \.kd\]//' | sort -u; }

# nvcc keeps one launch stub a kernel, with the kernel's name in its own.
cuda_kernels() { nm "$1" | grep -o '__device_stub__ZN\?[A-Za-z0-9_]*RK' | sed -e 's/^__device_stub_//' -e 's/RK$//' | readable; }

# The device code carries a descriptor NAME.kd for every kernel.
hip_kernels() { grep -a -o '_Z[A-Za-z0-9_]*\.kd' "$1" | sed -e 's/\.kd$//' | readable; }

missing() { comm -23 "$1" "$2"; }

bad=0 total=0
while [ $# -gt 0 ]; do
    cuda_kernels "$1" >"$work/cuda" || true
    hip_kernels "$2" >"$work/hip" || true
    count=$(wc -l <"$work/cuda")
    [ "$count" -gt 0 ] || { echo "hip: no kernel found in $1"; bad=1; }
    if [ -n "$(missing "$work/cuda" "$work/hip")" ]; then
        echo "hip: $2 lacks:"
        missing "$work/cuda" "$work/hip" | sed 's/^/  /'
        bad=1
    fi
    if [ "$prove" = 1 ]; then
        for i in $(seq 1 "$count"); do
            name=$(sed -n "${i}p" "$work/cuda")
            grep -vxF "$name" "$work/hip" >"$work/less" || true
            [ "$(missing "$work/cuda" "$work/less")" = "$name" ] || { echo "hip: the loss of $name is NOT noticed"; bad=1; }
        done
    fi
    total=$((total + count))
    shift 2
done
echo "hip: $total kernels compared"
exit $bad

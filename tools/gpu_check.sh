#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Checks and times the CUDA backend on a host that has a GPU but not what a build needs.
#   tools/gpu_check.sh pack BUILD DIR    copy the programs of a build, stripped, into DIR; carry it to the GPU host
#   tools/gpu_check.sh run DIR OUT       there: every kernel case on every backend, a sample of them under
#                                        compute-sanitizer where that is installed, then gpubench; logs and JSON in OUT
#   tools/gpu_check.sh check DIR OUT     the same without gpubench
# KVT_CHECK_STEP, KVT_SANITIZE_STEP: every how many-th case runs (default 1), and under the sanitizer (101). Exit status 1 if anything failed.
set -u

fail=0
run() { # run NAME COMMAND...: output to OUT/NAME.txt and, its end, here
    name=$1
    shift
    began=$(date +%s)
    if "$@" >"$out/$name.txt" 2>&1; then word=ok; else word=FAILED; fail=1; fi
    echo "== $name: $word, $(($(date +%s) - began)) s"
    tail -n "${lines:-12}" "$out/$name.txt"
}

find_sanitizer() {
    command -v compute-sanitizer && return
    ls /usr/local/cuda/bin/compute-sanitizer /usr/local/cuda/compute-sanitizer/compute-sanitizer 2>/dev/null | head -n 1
}

check() {
    run kernelcheck "$dir/kernelcheck" --step "${KVT_CHECK_STEP:-1}"
    sanitizer=$(find_sanitizer)
    if [ -z "$sanitizer" ]; then
        echo "== compute-sanitizer: not installed here"
        return
    fi
    for tool in memcheck racecheck; do
        run "$tool" "$sanitizer" --tool "$tool" --error-exitcode 9 "$dir/kernelcheck" --backend cuda \
            --step "${KVT_SANITIZE_STEP:-101}"
    done
}

case ${1-} in
pack)
    mkdir -p "$3" && strip -o "$3/kernelcheck" "$2/tools/kernelcheck" &&
        strip -o "$3/gpubench" "$2/tools/gpubench/gpubench"
    exit
    ;;
run | check)
    dir=$2 out=$3
    mkdir -p "$out"
    check
    if [ "$1" = run ]; then
        lines=400 run gpubench "$dir/gpubench" --json "$out/gpubench.jsonl"
    fi
    exit $fail
    ;;
*)
    sed -n '3,9s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac

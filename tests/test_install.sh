#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Install a build into a scratch prefix and use it from outside: through CMake (shared and static), and through pkg-config; the
# public header alone as C11, C17 and C++17; the library's needs and exports; the README's example is docs/example.c.
#
#   tests/test_install.sh BUILD SOURCE
set -euo pipefail
build=$1 source=$2
work=$(mktemp -d /var/tmp/kvtier-install-XXXXXX)
trap 'rm -rf "$work"' EXIT
export ASAN_OPTIONS=${ASAN_OPTIONS:-}

cmake --install "$build" --prefix "$work/prefix" >/dev/null
libdir=$(dirname "$(find "$work/prefix" -name libkvtier.so)")

cmake -S "$source/tests/install" -B "$work/outside" -DCMAKE_PREFIX_PATH="$work/prefix" -DEXAMPLE="$source/docs/example.c" >/dev/null
cmake --build "$work/outside" >/dev/null
for kind in kvtier kvtier_static; do
    "$work/outside/example_$kind" "$work/store_$kind" | grep -q "every byte is back"
    echo "install: example with $kind: every byte is back"
done

export PKG_CONFIG_PATH="$libdir/pkgconfig"
# shellcheck disable=SC2046
cc -std=c17 -Wall -Wextra -Werror "$source/docs/example.c" -o "$work/example" $(pkg-config --cflags --libs kvtier) -Wl,-rpath,"$libdir"
"$work/example" "$work/store_pc" | grep -q "every byte is back"
echo "install: example with pkg-config: every byte is back"

# The installed command finds the RocksDB module in a prefix it was not configured for, and in one that was moved.
if [ -n "$(find "$work/prefix" -name kvtier_rocks.so)" ]; then
    echo "a blob" >"$work/blob"
    cp -r "$work/prefix" "$work/moved"
    for prefix in prefix moved; do
        key=00112233445566778899aabbccddeeff
        "$work/$prefix/bin/kvtier" put -s "$work/rocks_$prefix" --tier rocks --disk-bytes 64M "$key" --model m -f "$work/blob" >/dev/null
        "$work/$prefix/bin/kvtier" get -s "$work/rocks_$prefix" "$key" | cmp - "$work/blob"
        "$work/$prefix/bin/kvtier" doctor -o csv -H >"$work/said"
        grep -q "^rocksdb,good,.*$work/$prefix" "$work/said"
        echo "install: the command in $prefix loads its RocksDB module"
    done
    mkdir "$work/alone"
    cp "$work/prefix/bin/kvtier" "$work/alone"
    if "$work/alone/kvtier" put -s "$work/none" --tier rocks --disk-bytes 64M "$key" --model m -f "$work/blob" 2>"$work/said"; then
        echo "install: a module was found where there is none"
        exit 1
    fi
    grep -q "looked in $work/alone/" "$work/said"
    [ ! -e "$work/none" ]
    echo "install: without its module the command says where it looked, and leaves no store"
fi

cat >"$work/header.c" <<'END'
#include "kvtier.h"
int main(void)
{
    kvt_options options = KVT_OPTIONS_INIT;
    kvt_space_options space = KVT_SPACE_OPTIONS_INIT;
    kvt_request request = KVT_REQUEST_INIT;
    kvt_batch batch = KVT_BATCH_INIT;
    kvt_stats stats = KVT_STATS_INIT;
    return options.struct_size == 0 || space.struct_size == 0 || request.struct_size == 0 || batch.struct_size == 0 ||
           stats.struct_size == 0 || kvt_version() == 0;
}
END
for standard in c11 c17; do
    cc -std=$standard -Wall -Wextra -Wpedantic -Werror -I"$work/prefix/include" -c "$work/header.c" -o "$work/header.o"
done
c++ -std=c++17 -Wall -Wextra -Wpedantic -Werror -I"$work/prefix/include" -x c++ -c "$work/header.c" -o "$work/header.o"
echo "install: the header is clean as C11, C17 and C++17"

needed=$(readelf -d "$libdir/libkvtier.so" | awk '/NEEDED/ { print $NF }')
if grep -E 'stdc\+\+|rocksdb' <<<"$needed"; then
    echo "install: libkvtier must not need a C++ runtime or RocksDB"
    exit 1
fi
stray=$(nm -D --defined-only "$libdir/libkvtier.so" | awk '{ print $3 }' | sed 's/@.*//' | grep -v -E '^(kvt_|KVT_)' || true)
if [ -n "$stray" ]; then
    echo "install: exported beside kvt_*: $stray"
    exit 1
fi
missing=$(grep -oE '^KVT_API .*|^ *kvt_[a-z0-9_]+\(' "$work/prefix/include/kvtier.h" | grep '^KVT_API' | grep -oE 'kvt_[a-z0-9_]+\(' |
    tr -d '(' | sort -u | while read -r name; do
    nm -D --defined-only "$libdir/libkvtier.so" | grep -q " $name\(@\|\$\)" || echo "$name"
done)
if [ -n "$missing" ]; then
    echo "install: declared, but not exported: $missing"
    exit 1
fi
echo "install: exports match the header"

awk '/^```c$/ { inside = 1; next } /^```$/ { inside = 0 } inside' "$source/README.md" >"$work/readme.c"
if ! diff -q "$work/readme.c" "$source/docs/example.c" >/dev/null; then
    echo "install: the C example of README.md is not docs/example.c"
    exit 1
fi
[ "$(wc -l <"$source/docs/example.c")" -lt 80 ]
echo "install: the README shows docs/example.c"

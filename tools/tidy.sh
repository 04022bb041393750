#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The house rules that a machine can check: which room may include which, sizes, banned calls, head lines, unique names.
#
#   tools/tidy.sh             check the tree; exit 1 and a line per offence
#   tools/tidy.sh --prove     plant one violation of each rule in a copy, and see each one found
#
# tools/tidy_exceptions.txt holds what is allowed for now: file, rule, measured value, reason. It may only shrink: an entry that is
# no longer needed, or whose value grew, is an offence as well.
set -u -o pipefail
export LC_ALL=C
root=$(cd "$(dirname "$0")/.." && pwd)

files_of() { # all sources of a tree, relative
    (cd "$1" && find engine hash compress kernels tiers tools tests docs -type f \
        \( -name '*.c' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh' \) 2>/dev/null || true) | sort
}

# offences <tree>: lines "file rule value text"
offences() {
    local tree=$1
    files_of "$tree" | (cd "$tree" && xargs awk '
    function room_of(path) {
        if (path ~ /^engine\/base\//) return "base"
        sub(/\/.*/, "", path)
        return path
    }
    function offence(rule, value, text) { print FILENAME, rule, value, text }
    function may_include(room, target,    door, other) {
        if (target == "engine/kvtier.h" || target == "engine/base/base.h") return 1
        other = room_of(target)
        if (other == room) return 1
        if (room == "tests") return other != "bindings"
        if (room == "docs") return 0
        door = (target == other "/" other ".h")
        if (room == "compress") return target == "hash/hash.h"
        if (room == "kernels") return target == "compress/wire.h"
        if (room == "tiers") return target == "hash/hash.h"
        if (room == "engine") return door
        if (room == "tools") return door || (target ~ /^tests\/cases_/)
        return 0
    }
    FNR == 1 {
        room = room_of(FILENAME)
        # the simulated disk stands in the room whose contract it keeps, but it is test code
        library = (room != "tools" && room != "tests" && room != "docs" && FILENAME !~ /io_sim/)
        depth_line = 0
        if ($0 !~ /SPDX-License-Identifier: Apache-2.0/) offence("head", 0, "the first line must name the licence")
        name = FILENAME; sub(/.*\//, "", name)
        if (name in seen) offence("name", 0, "another file has this name: " seen[name])
        seen[name] = FILENAME
    }
    {
        lines[FILENAME] = FNR
        if (length($0) > 120) offence("columns", length($0), "line " FNR)
    }
    /^#include "/ {
        target = $2; gsub(/"/, "", target)
        if (!may_include(room, target)) offence("direction", 0, "line " FNR ": " room " must not include " target)
    }
    /TODO|FIXME|(^|[^X])XXX([^X]|$)|HACK/ { offence("mark", 0, "line " FNR ": unfinished work") }
    library && /[^a-zA-Z_](abort|exit|_exit|printf|puts|getenv|setenv|signal|system)\(/ && !/__attribute__/ && !/^ \*|\/\*/ {
        offence("banned", 0, "line " FNR ": not inside a library: " $0)
    }
    library && room != "base" && /[^a-zA-Z_](malloc|calloc|realloc|strdup|free)\(/ && !/^ \*|\/\*/ {
        offence("heap", 0, "line " FNR ": the library heap is kvt_alloc and kvt_free: " $0)
    }
    /[^a-zA-Z_](strcpy|strcat|sprintf|gets|alloca|atoi|atol|strtok)\(/ && !/^ \*|\/\*/ {
        offence("banned", 0, "line " FNR ": use the bounded call: " $0)
    }
    /^\{/ { begin = FNR }
    /^\}/ { if (begin && FNR - begin + 1 > 70) offence("function", FNR - begin + 1, "ends at line " FNR); begin = 0 }
    END {
        for (file in lines) {
            if (lines[file] > 600 && file != "engine/kvtier.h") { FILENAME = file; print file, "file", lines[file], "lines" }
            short = file; sub(/.*\//, "", short)
            door = file; sub(/\/[^\/]*$/, "", door); sub(/.*\//, "", door)
            if (file ~ /\.h$/ && short != door ".h" && file != "engine/kvtier.h" && file !~ /^tests/ && lines[file] > 200)
                print file, "header", lines[file], "lines of a private header"
        }
    }')
}

# judge <tree>: compare with the exceptions; print what is wrong, return 1 if anything is
judge() {
    local tree=$1 list=$1/tools/tidy_exceptions.txt
    offences "$tree" | awk -v list="$list" '
    BEGIN {
        while ((getline line < list) > 0) {
            if (line ~ /^#/ || line == "") continue
            split(line, part, " ")
            allowed[part[1] " " part[2]] = part[3]
            needed[part[1] " " part[2]] = 0
        }
    }
    {
        key = $1 " " $2
        if (key in allowed) { needed[key] = 1; if ($3 + 0 <= allowed[key] + 0) next }
        print "tidy: " $0
        bad = 1
    }
    END {
        for (key in needed) if (!needed[key]) { print "tidy: tidy_exceptions.txt: no longer needed: " key; bad = 1 }
        exit bad
    }'
}

prove_one() { # rule, file, text: the violation must be found
    local rule=$1 file=$2 text=$3 copy found
    copy=$(mktemp -d)
    mkdir -p "$copy/$(dirname "$file")" "$copy/tools"
    printf '%b' "$text" > "$copy/$file"
    found=$(offences "$copy" || true)
    if grep -q "^$file $rule " <<<"$found"; then
        echo "tidy: found a planted '$rule'"
        rm -rf "$copy"
        return 0
    fi
    echo "tidy: a planted '$rule' in $file was NOT found"
    rm -rf "$copy"
    return 1
}

prove() {
    local head='/* SPDX-License-Identifier: Apache-2.0 */\n' bad=0 long
    long=$(printf 'x;\\n%.0s' $(seq 1 601))
    prove_one direction tiers/a.c "$head#include \"kernels/kernels.h\"\n" || bad=1
    prove_one direction hash/a.c "$head#include \"engine/index.h\"\n" || bad=1
    prove_one direction tools/a.c "$head#include \"tiers/io.h\"\n" || bad=1
    prove_one direction engine/base/a.c "$head#include \"hash/hash.h\"\n" || bad=1
    prove_one head hash/b.c 'int x;\n' || bad=1
    prove_one banned tiers/c.c "$head"'static void f(void)\n{\n    abort();\n}\n' || bad=1
    prove_one banned tools/c.c "$head"'static void f(char *a)\n{\n    strcpy(a, "x");\n}\n' || bad=1
    prove_one heap engine/d.c "$head"'static void *f(void)\n{\n    return malloc(4);\n}\n' || bad=1
    prove_one mark hash/e.c "$head// TODO\n" || bad=1
    prove_one columns hash/f.c "$head$(printf 'a%.0s' $(seq 1 130))\n" || bad=1
    prove_one function hash/g.c "${head}void f(void)\n{\n$(printf 'x;\\n%.0s' $(seq 1 80))}\n" || bad=1
    prove_one file hash/h.c "$head$long" || bad=1
    prove_one header hash/i_int.h "$head$(printf 'x;\\n%.0s' $(seq 1 220))" || bad=1
    return $bad
}

case "${1:-}" in
--prove) prove ;;
"") judge "$root" ;;
*)
    echo "usage: tools/tidy.sh [--prove]" >&2
    exit 2
    ;;
esac

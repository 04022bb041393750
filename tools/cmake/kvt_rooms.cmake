# A room is an object library kvt_<name>; it sees the repository root and nothing else of its neighbours' insides.

add_library(kvt_flags INTERFACE)
target_compile_features(kvt_flags INTERFACE c_std_17)
target_include_directories(kvt_flags INTERFACE ${PROJECT_SOURCE_DIR})
target_compile_definitions(kvt_flags INTERFACE _GNU_SOURCE KVT_CHECKS=${KVT_CHECKS})
set(KVT_C_WARNINGS -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion -Wstrict-prototypes
    -Wmissing-prototypes -Wvla -Wundef -Wwrite-strings -Wimplicit-fallthrough)
if(KVT_WERROR)
    list(APPEND KVT_C_WARNINGS -Werror)
endif()
target_compile_options(kvt_flags INTERFACE $<$<COMPILE_LANGUAGE:C>:${KVT_C_WARNINGS} -fvisibility=hidden -fno-omit-frame-pointer>)
target_link_libraries(kvt_flags INTERFACE Threads::Threads)
if(KVT_SANITIZE)
    target_compile_options(kvt_flags INTERFACE $<$<COMPILE_LANGUAGE:C>:-fsanitize=${KVT_SANITIZE} -fno-sanitize-recover=undefined>)
    target_link_options(kvt_flags INTERFACE -fsanitize=${KVT_SANITIZE})
endif()

# kvt_room(hash SOURCES a.c b.c [LIBS PkgConfig::X ...])
function(kvt_room name)
    cmake_parse_arguments(ROOM "" "" "SOURCES;LIBS" ${ARGN})
    add_library(kvt_${name} OBJECT ${ROOM_SOURCES})
    set_target_properties(kvt_${name} PROPERTIES POSITION_INDEPENDENT_CODE ON)
    target_link_libraries(kvt_${name} PUBLIC kvt_flags ${ROOM_LIBS})
endfunction()

# kvt_room_isa(hash avx2 file.c ...): instruction-set flags for single files, x86-64 only.
function(kvt_room_isa name isa)
    set(flags_sse42 -msse4.2 -mpclmul)
    set(flags_avx2 -mavx2 -mbmi2)
    set(flags_avx512 -mavx512f -mavx512bw -mavx512vl -mavx512dq -mbmi2)
    set(flags_avx512_bytes ${flags_avx512} -mavx512vbmi -mavx512vbmi2 -mbmi -mlzcnt -mpopcnt)
    set_source_files_properties(${ARGN} PROPERTIES COMPILE_OPTIONS "${flags_${isa}}")
endfunction()

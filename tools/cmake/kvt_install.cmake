# Install rules: the library, its one header, the RocksDB module, pkg-config and CMake package files. The command and its
# pages are installed by tools/.
include(CMakePackageConfigHelpers)

set(KVT_PACKAGE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/kvtier)
install(TARGETS kvtier_shared kvtier_static
    LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
    ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES engine/kvtier.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
if(TARGET kvtier_rocks)
    install(TARGETS kvtier_rocks LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/kvtier)
endif()
# What a static link needs beside our archive.
set(KVT_STATIC_LIBS "-lxxhash -lpthread -lm -ldl")
foreach(pair "URING;-luring" "ZSTD;-lzstd" "SHA256;-lcrypto")
    list(GET pair 0 part)
    list(GET pair 1 flag)
    if(KVT_HAVE_${part})
        string(APPEND KVT_STATIC_LIBS " ${flag}")
    endif()
endforeach()
if(KVT_HAVE_CUDA)
    string(APPEND KVT_STATIC_LIBS " -L${CUDAToolkit_LIBRARY_DIR} -lcudart_static -lrt")
endif()
# The prefix is found from where the file lies, so that an installed tree can be moved.
file(RELATIVE_PATH KVT_PC_UP /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
configure_file(engine/kvtier.pc.in ${CMAKE_CURRENT_BINARY_DIR}/kvtier.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/kvtier.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

configure_package_config_file(engine/kvtier-config.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/kvtier-config.cmake
    INSTALL_DESTINATION ${KVT_PACKAGE_DIR})
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/kvtier-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/kvtier-config.cmake ${CMAKE_CURRENT_BINARY_DIR}/kvtier-config-version.cmake
    DESTINATION ${KVT_PACKAGE_DIR})

# SPDX-License-Identifier: Apache-2.0
# What `cmake --install` puts down: library, headers, and how CMake and pkg-config find them.
include(CMakePackageConfigHelpers)

install(TARGETS attention EXPORT attention-targets
    LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
    ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY include/attention DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
if(ATTN_WEIGHTS)
    set(attention_requires jansson)
else()
    install(CODE "file(REMOVE \$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_INCLUDEDIR}/attention/weights.h)")
endif()
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/attention)
install(EXPORT attention-targets NAMESPACE attention:: DESTINATION ${package_dir})
configure_package_config_file(cmake/attention-config.cmake.in attention-config.cmake INSTALL_DESTINATION ${package_dir})
# Before 1.0 a minor version may break the interface; docs/abi.md.
write_basic_package_version_file(attention-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/attention-config.cmake ${CMAKE_CURRENT_BINARY_DIR}/attention-config-version.cmake
    cmake/FindJansson.cmake DESTINATION ${package_dir})

# Folders as the project was given them, some of which may be absolute: the prefix is then found by no relative path.
if(IS_ABSOLUTE ${CMAKE_INSTALL_LIBDIR})
    set(attention_pc_prefix ${CMAKE_INSTALL_PREFIX})
else()
    file(RELATIVE_PATH attention_prefix_from_pc /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
    string(REGEX REPLACE "/$" "" attention_prefix_from_pc ${attention_prefix_from_pc})
    set(attention_pc_prefix "\${pcfiledir}/${attention_prefix_from_pc}")
endif()
foreach(folder IN ITEMS INCLUDEDIR LIBDIR)
    if(IS_ABSOLUTE ${CMAKE_INSTALL_${folder}})
        set(attention_pc_${folder} ${CMAKE_INSTALL_${folder}})
    else()
        set(attention_pc_${folder} "\${prefix}/${CMAKE_INSTALL_${folder}}")
    endif()
endforeach()
configure_file(cmake/attention.pc.in attention.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/attention.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

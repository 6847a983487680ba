# SPDX-License-Identifier: Apache-2.0
# The JSON library that weights files are read with: the target Jansson::Jansson.
find_path(JANSSON_INCLUDE_DIR jansson.h)
find_library(JANSSON_LIBRARY jansson)
mark_as_advanced(JANSSON_INCLUDE_DIR JANSSON_LIBRARY)

if(JANSSON_INCLUDE_DIR)
    file(STRINGS ${JANSSON_INCLUDE_DIR}/jansson.h JANSSON_VERSION REGEX "^#define JANSSON_VERSION ")
    string(REGEX REPLACE ".*\"([0-9.]+)\".*" "\\1" JANSSON_VERSION "${JANSSON_VERSION}")
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(Jansson
    REQUIRED_VARS JANSSON_LIBRARY JANSSON_INCLUDE_DIR
    VERSION_VAR JANSSON_VERSION
    REASON_FAILURE_MESSAGE "weights files are read with it. On Debian and Ubuntu: apt-get install libjansson-dev")

if(Jansson_FOUND AND NOT TARGET Jansson::Jansson)
    add_library(Jansson::Jansson UNKNOWN IMPORTED)
    set_target_properties(Jansson::Jansson PROPERTIES
        IMPORTED_LOCATION ${JANSSON_LIBRARY} INTERFACE_INCLUDE_DIRECTORIES ${JANSSON_INCLUDE_DIR})
endif()

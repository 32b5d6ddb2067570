# One function per kind of target, so that a folder's CMakeLists.txt is a list of files.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()

# Host code keeps books; kernels, which compute, are compiled by aot/ with flags of their own.
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG")

find_program(NEREID_CCACHE ccache)
if(NEREID_CCACHE)
  # The sloppiness lets it cache what is compiled with precompiled headers.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env
    CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime ${NEREID_CCACHE})
endif()

find_package(Threads REQUIRED)
find_package(nlohmann_json 3.11 REQUIRED)
find_package(fmt REQUIRED)
find_package(CLI11 REQUIRED)

# A static archive is taken where there is one: the program then runs on machines without our libraries.
function(nereid_find_archive target name header)
  find_library(${target}_LIBRARY NAMES lib${name}.a ${name} REQUIRED)
  find_path(${target}_INCLUDE_DIR ${header} REQUIRED)
  add_library(${target} UNKNOWN IMPORTED GLOBAL)
  set_target_properties(${target} PROPERTIES
    IMPORTED_LOCATION "${${target}_LIBRARY}"
    INTERFACE_INCLUDE_DIRECTORIES "${${target}_INCLUDE_DIR}")
endfunction()
nereid_find_archive(nettle nettle nettle/sha2.h)
nereid_find_archive(pcre2 pcre2-8 pcre2.h)
nereid_find_archive(utf8proc utf8proc utf8proc.h)
target_compile_definitions(utf8proc INTERFACE UTF8PROC_STATIC)
# The line editor of `nereid chat`, and what its archive needs of others.
nereid_find_archive(editline edit histedit.h)
nereid_find_archive(tinfo tinfo term.h)
nereid_find_archive(bsd bsd bsd/vis.h)
nereid_find_archive(md md md5.h)
set_target_properties(editline PROPERTIES INTERFACE_LINK_LIBRARIES "tinfo;bsd")
set_target_properties(bsd PROPERTIES INTERFACE_LINK_LIBRARIES md)

add_library(nereid_flags INTERFACE)
target_compile_options(nereid_flags INTERFACE -Wall -Wextra -Wshadow
  $<$<BOOL:${NEREID_WERROR}>:-Werror>)
if(NEREID_SANITIZE)
  target_compile_options(nereid_flags INTERFACE -fsanitize=${NEREID_SANITIZE}
    -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(nereid_flags INTERFACE -fsanitize=${NEREID_SANITIZE})
endif()
target_include_directories(nereid_flags INTERFACE ${CMAKE_SOURCE_DIR}/src ${CMAKE_SOURCE_DIR}/include)
target_link_libraries(nereid_flags INTERFACE Threads::Threads fmt::fmt
  nlohmann_json::nlohmann_json ${CMAKE_DL_LIBS})

# nereid_layer(NAME SOURCES a.cc ... DEPENDS nereid::base ... LIBRARIES ...): one layer, one static library.
function(nereid_layer name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPENDS;LIBRARIES" ${ARGN})
  add_library(nereid_${name} STATIC ${ARG_SOURCES})
  add_library(nereid::${name} ALIAS nereid_${name})
  target_link_libraries(nereid_${name} PUBLIC nereid_flags ${ARG_DEPENDS} ${ARG_LIBRARIES})
endfunction()

# What every test includes is parsed once: it is most of the time that a test takes to compile.
function(nereid_test_headers)
  file(WRITE ${CMAKE_CURRENT_BINARY_DIR}/headers.cc "")
  add_library(nereid_test_headers OBJECT ${CMAKE_CURRENT_BINARY_DIR}/headers.cc)
  target_link_libraries(nereid_test_headers PRIVATE nereid_flags GTest::gmock GTest::gtest)
  # As CMake compiles the programs that use it.
  set_target_properties(nereid_test_headers PROPERTIES POSITION_INDEPENDENT_CODE OFF)
  target_compile_options(nereid_test_headers PRIVATE -fPIE -fpch-preprocess)
  target_precompile_headers(nereid_test_headers PRIVATE
    <gmock/gmock.h> <gtest/gtest.h> <fmt/format.h> <nlohmann/json.hpp>)
endfunction()

# nereid_test(NAME TIER null|device|golden|e2e SOURCES ... DEPENDS ...): one GoogleTest program; the tier is its ctest label.
# The target nereid_tests_<tier> builds a tier.
function(nereid_test name)
  cmake_parse_arguments(ARG "" "TIER" "SOURCES;DEPENDS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_DEPENDS} GTest::gmock GTest::gtest_main)
  target_compile_options(${name} PRIVATE -fpch-preprocess)
  target_precompile_headers(${name} REUSE_FROM nereid_test_headers)
  target_compile_definitions(${name} PRIVATE NEREID_SOURCE_DIR="${CMAKE_SOURCE_DIR}"
    NEREID_BINARY_DIR="${CMAKE_BINARY_DIR}")
  if(NOT TARGET nereid_tests_${ARG_TIER})
    add_custom_target(nereid_tests_${ARG_TIER})
  endif()
  add_dependencies(nereid_tests_${ARG_TIER} ${name})
  gtest_discover_tests(${name} DISCOVERY_MODE PRE_TEST PROPERTIES LABELS ${ARG_TIER} TIMEOUT 600)
endfunction()

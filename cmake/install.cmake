# What `cmake --install` makes: PREFIX/bin, PREFIX/lib, PREFIX/include/nereid, and PREFIX/share/nereid with what the
# program and the library look for there (src/base/installation.h). Programs of others: find_package(Nereid).
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

# One shared library of the layers behind the API. Shared, because it must know where it was loaded from, and because
# what it is made with stays inside: a program that uses it needs the headers and packages of none of that.
add_library(nereid_shared SHARED)
foreach(layer ${NEREID_API_LAYERS})
  target_sources(nereid_shared PRIVATE $<TARGET_OBJECTS:nereid_${layer}>)
endforeach()
target_link_libraries(nereid_shared PRIVATE nereid::engine)
# The symbols of static libraries stay inside, too.
target_link_options(nereid_shared PRIVATE -Wl,--exclude-libs,ALL
  -Wl,--version-script=${CMAKE_CURRENT_SOURCE_DIR}/cmake/libnereid.map)
set_target_properties(nereid_shared PROPERTIES LINK_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/cmake/libnereid.map)
target_include_directories(nereid_shared INTERFACE $<INSTALL_INTERFACE:include>)
target_compile_features(nereid_shared INTERFACE cxx_std_20)
set_target_properties(nereid_shared PROPERTIES LINKER_LANGUAGE CXX OUTPUT_NAME nereid EXPORT_NAME nereid
  VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})

install(TARGETS nereid_shared EXPORT NereidTargets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(TARGETS nereid nereid-ttir RUNTIME DESTINATION bin)
install(DIRECTORY include/nereid DESTINATION include)
install(DIRECTORY aot kernels DESTINATION share/nereid
  FILES_MATCHING PATTERN *.py PATTERN requirements.txt PATTERN __pycache__ EXCLUDE)
# What expressions mean, for kernels that take one.
install(DIRECTORY src/graph/expression DESTINATION share/nereid/src/graph FILES_MATCHING PATTERN *.def)
install(DIRECTORY ttir/runtime DESTINATION share/nereid/ttir)
install(DIRECTORY configs DESTINATION share/nereid)
# Kernels compiled for the tree's own copy are of one machine.
install(DIRECTORY models/demo DESTINATION share/nereid/models PATTERN bundle EXCLUDE)
install(FILES LICENSE DESTINATION share/nereid)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/Nereid)
set(NEREID_SHARE_DIR share/nereid)
configure_package_config_file(cmake/NereidConfig.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/NereidConfig.cmake
  INSTALL_DESTINATION ${package_dir} PATH_VARS NEREID_SHARE_DIR)
# Before 1.0 a minor version may change the API.
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/NereidConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/NereidConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/NereidConfigVersion.cmake
  DESTINATION ${package_dir})
install(EXPORT NereidTargets NAMESPACE Nereid:: DESTINATION ${package_dir})

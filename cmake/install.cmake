# What `cmake --install` and `cpack` put where: the service (coordinator and command, which know no LibTorch) and the worker.
#
#   cmake --install build/release --prefix DIR [--component service|worker]
#   cpack --config build/release/CPackConfig.cmake -G DEB     the service as a Debian package
#   cpack --config build/release/CPackConfig.cmake -G TGZ     the worker, to unpack anywhere; takes LibTorch from a folder
include(GNUInstallDirs)

install(TARGETS loupe loupe-coordinator RUNTIME DESTINATION bin COMPONENT service)
install(DIRECTORY configs/ DESTINATION share/loupe/configs COMPONENT service)
install(FILES deploy/systemd/loupe-coordinator.service deploy/systemd/loupe-coordinator.socket deploy/systemd/loupe-coordinator-http.socket
  DESTINATION lib/systemd/system COMPONENT service)
install(FILES deploy/systemd/loupe.sysusers DESTINATION lib/sysusers.d RENAME loupe.conf COMPONENT service)
install(FILES deploy/systemd/loupe.tmpfiles DESTINATION lib/tmpfiles.d RENAME loupe.conf COMPONENT service)
install(FILES docs/cluster.md docs/cli.md docs/reliability.md README.md DESTINATION share/doc/loupe COMPONENT service)
# The command writes its own manual and completions.
install(CODE "set(_bin \"${CMAKE_RUNTIME_OUTPUT_DIRECTORY}\")" COMPONENT service)
install(SCRIPT cmake/install_manual.cmake COMPONENT service)

if(LOUPE_WITH_TORCH)
  # LibTorch is a folder of the user's, behind the link lib/torch (deploy/worker/use-torch); other libraries come along. As an
  # RPATH and not a RUNPATH, so that it holds for the libraries' libraries too.
  set_target_properties(loupe-worker PROPERTIES INSTALL_RPATH "$ORIGIN/../lib/torch;$ORIGIN/../lib/loupe")
  target_link_options(loupe-worker PRIVATE LINKER:--disable-new-dtags)
  install(TARGETS loupe-worker RUNTIME_DEPENDENCY_SET loupe_worker_libraries RUNTIME DESTINATION bin COMPONENT worker)
  # The C and C++ libraries are the system's: glibc 2.36 or newer.
  install(RUNTIME_DEPENDENCY_SET loupe_worker_libraries
    PRE_EXCLUDE_REGEXES "^lib(c|m|dl|rt|pthread|resolv|stdc\\+\\+|gcc_s)\\.so" "^ld-linux" "^lib(torch|c10)"
    LIBRARY DESTINATION lib/loupe COMPONENT worker)
  install(PROGRAMS deploy/worker/use-torch DESTINATION . COMPONENT worker)
  install(FILES deploy/requirements.txt DESTINATION share/loupe COMPONENT worker)
  install(FILES deploy/systemd/loupe-worker@.service DESTINATION lib/systemd/system COMPONENT worker)
  install(DIRECTORY configs/ DESTINATION share/loupe/configs COMPONENT worker)
endif()

set(CPACK_PACKAGE_NAME loupe)
set(CPACK_PACKAGE_VENDOR "Loupe developers")
set(CPACK_PACKAGE_CONTACT "Loupe developers")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "Factorial sweeps over parameter-efficient tuning of diffusion models")
set(CPACK_STRIP_FILES ON)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_SERVICE_PACKAGE_NAME loupe)
set(CPACK_DEBIAN_SERVICE_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_SERVICE_PACKAGE_SECTION science)
set(CPACK_DEBIAN_SERVICE_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_SERVICE_PACKAGE_CONTROL_EXTRA ${CMAKE_SOURCE_DIR}/deploy/debian/postinst ${CMAKE_SOURCE_DIR}/deploy/debian/prerm)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_ARCHIVE_COMPONENT_INSTALL ON)
set(CPACK_ARCHIVE_WORKER_FILE_NAME loupe-worker-${PROJECT_VERSION}-linux-${CMAKE_SYSTEM_PROCESSOR})
set(CPACK_GENERATOR DEB TGZ)
set(CPACK_PROJECT_CONFIG_FILE ${CMAKE_SOURCE_DIR}/cmake/packages.cmake)
include(CPack)

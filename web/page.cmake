# The page as a part of the coordinator: LOUPE_PAGE_SOURCE, a C++ source with the bundled files in it, made anew when one of the
# page's sources changes. Without node or the page's packages (deploy/setup.sh brings both) the program is built without its page,
# and the address of the page says how to get it.
set(LOUPE_PAGE_SOURCE ${CMAKE_BINARY_DIR}/web/page_files.cc)
# Of the page's own sources a change of any counts; what node_modules holds follows from the lock file.
file(GLOB_RECURSE _loupe_page_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/web/src/*)
set(_loupe_page_packages ${CMAKE_SOURCE_DIR}/web/node_modules/.package-lock.json)
# Debian's node, or the one that set-up put beside the Python packages.
find_program(LOUPE_NODE NAMES node HINTS ${CMAKE_SOURCE_DIR}/.venv/bin)
set(_loupe_page_ready)
if(LOUPE_NODE AND EXISTS ${_loupe_page_packages})
  set(_loupe_page_ready ${_loupe_page_packages})
else()
  message(STATUS "The coordinator is built without its page: run ./quickstart or ./test once, which install what bundles it")
endif()
add_custom_command(
  OUTPUT ${LOUPE_PAGE_SOURCE}
  COMMAND ${CMAKE_COMMAND} -DNODE=$<$<BOOL:${_loupe_page_ready}>:${LOUPE_NODE}> -DWEB=${CMAKE_SOURCE_DIR}/web
          -DOUT=${LOUPE_PAGE_SOURCE} -P ${CMAKE_SOURCE_DIR}/web/embed.cmake
  DEPENDS ${_loupe_page_sources} ${_loupe_page_ready} ${CMAKE_SOURCE_DIR}/web/build.mjs ${CMAKE_SOURCE_DIR}/web/embed.cmake
  COMMENT "Bundling the page" VERBATIM)

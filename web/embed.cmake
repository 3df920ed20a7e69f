# cmake -DNODE=… -DWEB=… -DOUT=….cc -P embed.cmake: bundles the page and writes it as a C++ source. With an empty NODE, one page
# that says how to get the page.
get_filename_component(folder ${OUT} DIRECTORY)
set(dist ${folder}/dist)
file(REMOVE_RECURSE ${dist})
file(MAKE_DIRECTORY ${dist})
if(NODE)
  execute_process(COMMAND ${NODE} ${WEB}/build.mjs ${dist} RESULT_VARIABLE failed OUTPUT_VARIABLE said ERROR_VARIABLE said)
  if(failed)
    message(FATAL_ERROR "the page cannot be bundled:\n${said}")
  endif()
else()
  file(WRITE ${dist}/index.html "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Loupe</title>
<p>This coordinator was built without its page. Run <code>./quickstart</code> or <code>./test --build-only</code> once, which
install node and the page's packages, and build again. <code>loupe status</code> and <code>loupe report</code> show the same numbers.</p></html>
")
endif()

set(media_html "text/html; charset=utf-8")
set(media_js "text/javascript; charset=utf-8")
set(media_css "text/css; charset=utf-8")
set(media_svg "image/svg+xml")
set(arrays "")
set(entries "")
set(count 0)
file(GLOB files RELATIVE ${dist} ${dist}/*)
foreach(file ${files})
  file(READ ${dist}/${file} hex HEX)
  string(REGEX REPLACE "(..)" "\\\\x\\1" bytes "${hex}")
  # Lines of a sensible length: 64 bytes each.
  string(REPEAT "....." 51 most)
  string(REGEX REPLACE "(${most}.)" "\\1\"\n    \"" bytes "${bytes}")
  string(REGEX REPLACE "^.*\\." "" ending ${file})
  string(APPEND arrays "constexpr char kFile${count}[] =\n    \"${bytes}\";\n")
  string(APPEND entries "    {\"/${file}\", \"${media_${ending}}\", {kFile${count}, sizeof(kFile${count}) - 1}},\n")
  math(EXPR count "${count} + 1")
endforeach()
file(WRITE ${OUT}.new "// Made by web/embed.cmake.
#include \"coordinator/http/page_files.h\"

namespace loupe::coordinator::http {
namespace {

${arrays}
constexpr PageFile kFiles[] = {
${entries}};

}  // namespace

std::span<const PageFile> PageFiles() { return kFiles; }

}  // namespace loupe::coordinator::http
")
file(RENAME ${OUT}.new ${OUT})

// The page's files, part of this program.
#pragma once

#include <span>
#include <string_view>

namespace loupe::coordinator::http {

struct PageFile {
  // "/index.html"
  std::string_view path;
  std::string_view media_type;
  std::string_view content;
};

// All of them; "/index.html" also answers for paths that a page shows by itself. None where the program was built
// without its page.
std::span<const PageFile> PageFiles();

}  // namespace loupe::coordinator::http

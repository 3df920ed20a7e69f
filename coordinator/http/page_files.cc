#include "coordinator/http/page_files.h"

namespace loupe::coordinator::http {

std::span<const PageFile> PageFiles() { return {}; }

}  // namespace loupe::coordinator::http

// The HTTP interface as an OpenAPI 3.1 document, made from the methods' own descriptors: it cannot differ from them.
#pragma once

#include <string>

#include "coordinator/http/methods.h"

namespace loupe::coordinator::http {

// In JSON, with two spaces; the same for the same program.
std::string OpenApiDocument(const Methods& methods);

}  // namespace loupe::coordinator::http

// Which part of a file a request wants: Range, If-Range, If-None-Match (RFC 9110 §13 and §14).
#pragma once

#include <cstdint>
#include <string_view>

#include "coordinator/http/exchange.h"

namespace loupe::coordinator::http {

struct Part {
  // 200: all of it; 206: from `first` on; 304: the client has it; 416: no such part.
  int status = 200;
  int64_t first = 0;
  int64_t bytes = 0;
};

// Of a file of `size` bytes with the strong `etag` (quoted). One range is served; several, other units and what cannot
// be read are as if not asked for.
Part PartOf(const Request& request, int64_t size, std::string_view etag);

}  // namespace loupe::coordinator::http

// Answers as gzip, for clients that take it (RFC 9110, section 12.5.3).
//
// What is made for a request is compressed quickly, the page's own files once and well (docs/http.md has the numbers).
// Never: streams of events, artifacts (their bytes have digests and ranges), short answers, and answers with
// credentials, whose length must say nothing of them.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "coordinator/http/exchange.h"

namespace loupe::coordinator::http {

// Below it an answer goes as it is: it fits what the network sends at once.
inline constexpr size_t kLeastCompressed = 16 << 10;
// Above it too: it would hold a thread, and its memory twice, for too long.
inline constexpr size_t kMostCompressed = 64 << 20;

// Whether Accept-Encoding names gzip (or "x-gzip", or "*") with another weight than 0.
bool TakesGzip(const Request& request);

// The bytes as a gzip file; nothing when memory is short.
std::optional<std::string> Gzip(std::string_view bytes, bool well = false);

// Whether a body of this size for this request is to be compressed.
bool IsToCompress(const Request& request, size_t bytes);
// Says that the answer depends on Accept-Encoding, and compresses its body where it is to be. An ETag of the answer
// must be that of the bytes that are sent: it is the caller's to choose.
void Compress(const Request& request, Response& response);

}  // namespace loupe::coordinator::http

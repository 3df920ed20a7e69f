#include "coordinator/http/compress.h"

#include <zlib.h>

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"

namespace loupe::coordinator::http {
namespace {

constexpr int kQuickLevel = 3;
constexpr int kGoodLevel = 9;
// gzip's frame in place of zlib's; the largest window.
constexpr int kGzipWindow = 15 + 16;
constexpr int kMemoryLevel = 8;

std::string_view Trimmed(std::string_view text) {
  const absl::string_view trimmed = absl::StripAsciiWhitespace(absl::string_view(text.data(), text.size()));
  return {trimmed.data(), trimmed.size()};
}

bool Is(std::string_view a, std::string_view b) {
  return absl::EqualsIgnoreCase(absl::string_view(a.data(), a.size()), absl::string_view(b.data(), b.size()));
}

// Of "gzip;q=0.5": whether it is not refused. A weight that is none refuses.
bool HasWeight(std::string_view parameters) {
  const std::string_view weight = Trimmed(parameters);
  if (weight.empty()) return true;
  if (weight.size() < 3 || !Is(weight.substr(0, 2), "q=")) return false;
  const std::string_view number = weight.substr(2);
  return number.size() <= 5 && (number[0] == '0' || number[0] == '1') &&
         number.find_first_not_of("0123456789.") == std::string_view::npos &&
         number.find_first_not_of("0.") != std::string_view::npos;
}

}  // namespace

bool TakesGzip(const Request& request) {
  std::optional<bool> any;
  for (const auto& [name, value] : request.headers) {
    if (name != "accept-encoding") continue;
    std::string_view rest = value;
    while (!rest.empty()) {
      const std::string_view part = rest.substr(0, rest.find(','));
      rest.remove_prefix(std::min(rest.size(), part.size() + 1));
      const size_t semicolon = part.find(';');
      const std::string_view coding = Trimmed(part.substr(0, semicolon));
      const bool taken = semicolon == std::string_view::npos || HasWeight(part.substr(semicolon + 1));
      // What is named counts more than all the rest.
      if (Is(coding, "gzip") || Is(coding, "x-gzip")) return taken;
      if (coding == "*") any = taken;
    }
  }
  return any.value_or(false);
}

std::optional<std::string> Gzip(std::string_view bytes, bool well) {
  z_stream stream{};
  if (deflateInit2(&stream, well ? kGoodLevel : kQuickLevel, Z_DEFLATED, kGzipWindow, kMemoryLevel,
                   Z_DEFAULT_STRATEGY) != Z_OK)
    return std::nullopt;
  std::string made(deflateBound(&stream, static_cast<uLong>(bytes.size())), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(made.data());
  stream.avail_out = static_cast<uInt>(made.size());
  const int result = deflate(&stream, Z_FINISH);
  made.resize(stream.total_out);
  deflateEnd(&stream);
  if (result != Z_STREAM_END) return std::nullopt;
  return made;
}

bool IsToCompress(const Request& request, size_t bytes) {
  return bytes >= kLeastCompressed && bytes <= kMostCompressed &&
         !std::string_view(request.path).starts_with("/loupe.v1.AccessService/") && TakesGzip(request);
}

void Compress(const Request& request, Response& response) {
  response.headers.emplace_back("Vary", "Accept-Encoding");
  if (!IsToCompress(request, response.body.size())) return;
  if (std::optional<std::string> made = Gzip(response.body); made && made->size() < response.body.size()) {
    response.body = *std::move(made);
    response.headers.emplace_back("Content-Encoding", "gzip");
  }
}

}  // namespace loupe::coordinator::http

#include "worker/data/caption_text.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "common/lfs_pointer.h"
#include "common/status_macros.h"
#include "common/text.h"
#include "fmt/format.h"

namespace loupe::worker::data {
namespace {

using namespace std::string_view_literals;

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

absl::Status NoUtf8(const std::string& name, std::string_view what, std::string_view encoding) {
  return absl::InvalidArgumentError(
      fmt::format("{}: {}; captions are UTF-8: save it so (iconv -f {} -t UTF-8)", Printable(name), what, encoding));
}

int64_t LineOf(std::string_view bytes, size_t at) {
  const std::string_view before = bytes.substr(0, at);
  return 1 + std::count(before.begin(), before.end(), '\n');
}

}  // namespace

absl::StatusOr<std::string> Utf8Text(std::string_view bytes, const std::string& name) {
  LOUPE_RETURN_IF_ERROR(CheckIsNoLfsPointer(Printable(name), bytes));
  if (bytes.starts_with("\xFF\xFE\0\0"sv) || bytes.starts_with("\0\0\xFE\xFF"sv))
    return NoUtf8(name, "is UTF-32", "UTF-32");
  if (bytes.starts_with("\xFF\xFE"sv) || bytes.starts_with("\xFE\xFF"sv)) return NoUtf8(name, "is UTF-16", "UTF-16");
  if (bytes.starts_with(kByteOrderMark)) bytes.remove_prefix(kByteOrderMark.size());
  if (const size_t nul = bytes.find('\0'); nul != std::string_view::npos) {
    const std::string_view guess = nul == 0 ? "UTF-16BE" : "UTF-16LE";
    return NoUtf8(name, fmt::format("line {} has a NUL, as UTF-16 text has everywhere", LineOf(bytes, nul)), guess);
  }
  if (const size_t at = FindNotUtf8(bytes); at != std::string_view::npos) {
    return NoUtf8(
        name,
        fmt::format(
            "line {} has the byte 0x{:02X}, which is not UTF-8 there (Latin-1, Windows-1252 or another old encoding?)",
            LineOf(bytes, at), static_cast<unsigned char>(bytes[at])),
        "LATIN1");
  }
  return std::string(bytes);
}

absl::StatusOr<std::string> CaptionText(std::string_view bytes, const std::string& name) {
  LOUPE_ASSIGN_OR_RETURN(const std::string text, Utf8Text(bytes, name));
  const auto trimmed = absl::StripAsciiWhitespace(text);
  return std::string(trimmed.data(), trimmed.size());
}

}  // namespace loupe::worker::data

#include "analysis/stats/csv_encoding.h"

#include <iconv.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>

#include "common/status_macros.h"
#include "common/text.h"
#include "fmt/format.h"

namespace loupe::analysis::stats {
namespace {

struct Mark {
  std::string_view bytes;
  const char* means;
};

// UTF-32 before UTF-16, whose mark it begins with.
constexpr std::array<Mark, 5> kByteOrderMarks = {{{{"\xFF\xFE\0\0", 4}, "UTF-32LE"},
                                                  {{"\0\0\xFE\xFF", 4}, "UTF-32BE"},
                                                  {{"\xFF\xFE", 2}, "UTF-16LE"},
                                                  {{"\xFE\xFF", 2}, "UTF-16BE"},
                                                  {{"\xEF\xBB\xBF", 3}, ""}}};

constexpr std::array<Mark, 6> kOtherFiles = {{{{"PK\x03\x04", 4}, "an .xlsx or .ods spreadsheet, or a zip archive"},
                                              {{"\xD0\xCF\x11\xE0", 4}, "an .xls spreadsheet"},
                                              {{"\x1F\x8B", 2}, "compressed by gzip"},
                                              {{"PAR1", 4}, "a Parquet file"},
                                              {{"SQLite format 3\0", 16}, "an SQLite database"},
                                              {{"%PDF-", 5}, "a PDF document"}}};

int64_t LineOf(std::string_view text, size_t at) {
  return 1 + std::count(text.begin(), text.begin() + static_cast<int64_t>(at), '\n');
}

absl::Status Convert(std::string_view bytes, const std::string& encoding, std::string& out) {
  const iconv_t made = iconv_open("UTF-8", encoding.c_str());
  if (made == reinterpret_cast<iconv_t>(-1)) {  // NOLINT: iconv's own way to say so
    return absl::InvalidArgumentError(
        fmt::format("there is no encoding '{}'; expected one that 'iconv -l' lists, such as windows-1252 or utf-16le",
                    Printable(encoding)));
  }
  const std::unique_ptr<void, int (*)(iconv_t)> converter(made, iconv_close);
  out.clear();
  std::array<char, 1 << 14> chunk{};
  char* from = const_cast<char*>(bytes.data());  // NOLINT: iconv reads only
  size_t left = bytes.size();
  while (left > 0) {
    char* to = chunk.data();
    size_t room = chunk.size();
    const size_t converted = iconv(converter.get(), &from, &left, &to, &room);
    const int error = errno;
    out.append(chunk.data(), chunk.size() - room);
    if (converted == static_cast<size_t>(-1) && error != E2BIG) {
      return absl::InvalidArgumentError(
          fmt::format("line {}: not {} text from here on; is the file cut off, or in another encoding?",
                      LineOf(out, out.size()), encoding));
    }
  }
  return absl::OkStatus();
}

// Text of whose first bytes every second is zero, or three of four: what UTF-16 and UTF-32 make of ASCII (RFC 4627, 3).
// Empty if it is not.
std::string WideWithoutMark(std::string_view bytes) {
  if (bytes.size() < 4 || bytes.size() % 2 != 0) return "";
  std::string pattern;
  for (const char c : bytes.substr(0, 4)) pattern += c == '\0' ? '0' : 'x';
  if (pattern == "x0x0") return "UTF-16LE";
  if (pattern == "0x0x") return "UTF-16BE";
  if (pattern == "x000" && bytes.size() % 4 == 0) return "UTF-32LE";
  if (pattern == "000x" && bytes.size() % 4 == 0) return "UTF-32BE";
  return "";
}

absl::StatusOr<std::string_view> Checked(std::string_view text) {
  if (const size_t zero = text.find('\0'); zero != std::string_view::npos) {
    return absl::InvalidArgumentError(
        fmt::format("line {}: a zero byte: this is no text file; expected a CSV table", LineOf(text, zero)));
  }
  return text;
}

}  // namespace

absl::StatusOr<std::string_view> DecodeCsv(std::string_view bytes, const std::string& encoding, std::string& storage) {
  for (const Mark& other : kOtherFiles) {
    if (!bytes.starts_with(other.bytes)) continue;
    return absl::InvalidArgumentError(
        fmt::format("the file is {} and no CSV table; save or export it as CSV (UTF-8)", other.means));
  }
  std::string from = encoding;
  for (const Mark& mark : kByteOrderMarks) {
    if (!bytes.starts_with(mark.bytes)) continue;
    bytes.remove_prefix(mark.bytes.size());
    from = mark.means;
    break;
  }
  if (from.empty()) from = WideWithoutMark(bytes);
  if (!from.empty()) {
    LOUPE_RETURN_IF_ERROR(Convert(bytes, from, storage));
    bytes = storage;
  }
  if (const size_t bad = FindNotUtf8(bytes); bad != std::string_view::npos) {
    return absl::InvalidArgumentError(fmt::format(
        "line {}: the byte {} is not UTF-8 text: the file is in another encoding; name it (--encoding windows-1252 for files of "
        "older Windows programs, latin1, shift_jis, …) or save the file as UTF-8",
        LineOf(bytes, bad), ToUtf8(bytes.substr(bad, 1))));
  }
  return Checked(bytes);
}

}  // namespace loupe::analysis::stats

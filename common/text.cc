#include "common/text.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

#include "fmt/format.h"

namespace loupe {
namespace {

constexpr uint64_t kHighBits = 0x8080808080808080ULL;  // of eight bytes
constexpr std::string_view kCut = "…";
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

bool IsContinuation(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

// Precondition: `text` begins with a well-formed character of `length` bytes.
uint32_t CodePoint(std::string_view text, size_t length) {
  const auto first = static_cast<unsigned char>(text[0]);
  if (length == 1) return first;
  uint32_t code = first & (0xFFU >> (length + 1));
  for (size_t i = 1; i < length; ++i) code = code << 6 | (static_cast<unsigned char>(text[i]) & 0x3FU);
  return code;
}

// Whether a terminal or a browser would obey the character instead of showing it, or show nothing for it.
bool IsUnseen(uint32_t code) {
  return code < 0x20 || (code >= 0x7F && code < 0xA0) || code == 0x061C ||  // C0, DEL, C1, Arabic letter mark
         code == 0x200B || code == 0x200E || code == 0x200F ||              // zero-width space, LRM, RLM
         (code >= 0x2028 && code <= 0x202E) ||
         (code >= 0x2060 && code <= 0x206F) ||                  // separators, bidi embeddings and isolates
         code == 0xFEFF || (code >= 0xFFF9 && code <= 0xFFFB);  // no-break space, annotations
}

// Plain text is the rule: runs of printable ASCII are passed eight bytes at a time. Offset of the first other byte.
size_t PlainRun(std::string_view text, size_t from) {
  constexpr uint64_t kOnes = kHighBits >> 7;
  while (from + 8 <= text.size()) {
    uint64_t word = 0;
    std::memcpy(&word, text.data() + from, 8);
    const uint64_t below_blank = (word - kOnes * 0x20) & ~word;  // high bit where a byte is under 0x20
    const uint64_t deleted = ((word ^ kOnes * 0x7F) - kOnes) & ~(word ^ kOnes * 0x7F);
    if (((word | below_blank | deleted) & kHighBits) != 0) break;
    from += 8;
  }
  while (from < text.size() && text[from] >= 0x20 && text[from] < 0x7F) ++from;
  return from;
}

// Walks over `text`; what is not plain ASCII is appended by `other(out, character, code)`, one well-formed character at
// a time.
template <typename Other>
std::string Rewrite(std::string_view text, Other other) {
  std::string out;
  out.reserve(text.size());
  size_t at = 0;
  while (at < text.size()) {
    const size_t run = PlainRun(text, at);
    out.append(text, at, run - at);
    at = run;
    if (at == text.size()) break;
    const size_t length = CharacterLength(text.substr(at));
    if (length == 0) {
      fmt::format_to(std::back_inserter(out), "\\x{:02x}", static_cast<unsigned char>(text[at++]));
      continue;
    }
    other(out, text.substr(at, length), CodePoint(text.substr(at), length));
    at += length;
  }
  return out;
}

void AppendEscaped(std::string& out, uint32_t code) {
  switch (code) {
    case '\n':
      out += "\\n";
      return;
    case '\r':
      out += "\\r";
      return;
    case '\t':
      out += "\\t";
      return;
    default:
      fmt::format_to(std::back_inserter(out), "\\{}{:0{}x}", code < 0x80 ? 'x' : 'u', code, code < 0x80 ? 2 : 4);
  }
}

// What stands around a line in files that pages and word processors wrote.
constexpr std::array<std::string_view, 9> kBlanks = {" ",  "\t",       "\n",           "\r",          "\v",
                                                     "\f", "\xC2\xA0", "\xE2\x80\x8B", kByteOrderMark};

size_t BlankLength(std::string_view text) {
  const auto found =
      std::find_if(kBlanks.begin(), kBlanks.end(), [&](std::string_view blank) { return text.starts_with(blank); });
  return found == kBlanks.end() ? 0 : found->size();
}

size_t TrailingBlankLength(std::string_view text) {
  const auto found =
      std::find_if(kBlanks.begin(), kBlanks.end(), [&](std::string_view blank) { return text.ends_with(blank); });
  return found == kBlanks.end() ? 0 : found->size();
}

// Whether spreadsheets take a text that begins so for a formula: also the full-width signs of East Asian keyboards.
bool BeginsFormula(std::string_view text) {
  for (const std::string_view sign :
       {"=", "+", "-", "@", "\xEF\xBC\x9D", "\xEF\xBC\x8B", "\xEF\xBC\x8D", "\xEF\xBC\xA0"}) {
    if (text.starts_with(sign)) return text.size() > sign.size();  // alone it is a sign
  }
  return false;
}

bool IsNumber(std::string_view text) {
  return text.find_first_not_of("0123456789.eE+-") == std::string_view::npos &&
         text.find_first_of("0123456789") != std::string_view::npos &&
         (text.size() < 2 || text.find_first_of("+-", 1) == std::string_view::npos ||
          text.find_first_of("eE") + 1 == text.find_first_of("+-", 1));
}

}  // namespace

size_t CharacterLength(std::string_view text) {
  if (text.empty()) return 0;
  const auto first = static_cast<unsigned char>(text[0]);
  if (first < 0x80) return 1;
  const size_t length = first >= 0xC2 && first < 0xE0   ? 2
                        : first >= 0xE0 && first < 0xF0 ? 3
                        : first >= 0xF0 && first < 0xF5 ? 4
                                                        : 0;
  if (length == 0 || text.size() < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if (!IsContinuation(text[i])) return 0;
  }
  const auto second = static_cast<unsigned char>(text[1]);
  const bool overlong = (first == 0xE0 && second < 0xA0) || (first == 0xF0 && second < 0x90);
  const bool beyond =
      (first == 0xED && second >= 0xA0) || (first == 0xF4 && second >= 0x90);  // surrogates; above U+10FFFF
  return overlong || beyond ? 0 : length;
}

size_t FindNotUtf8(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    uint64_t word = kHighBits;  // eight bytes of ASCII at a time: tables have a million lines
    if (at + 8 <= text.size()) std::memcpy(&word, text.data() + at, 8);
    if ((word & kHighBits) == 0) {
      at += 8;
      continue;
    }
    const size_t length = CharacterLength(text.substr(at));
    if (length == 0) return at;
    at += length;
  }
  return std::string_view::npos;
}

std::string ToUtf8(std::string_view text) {
  if (FindNotUtf8(text) == std::string_view::npos) return std::string(text);
  return Rewrite(text, [](std::string& out, std::string_view character, uint32_t) { out += character; });
}

std::string Shortened(std::string_view text, size_t most_bytes) {
  // Enough of it to be sure that something is left over: no escape is shorter than its byte.
  std::string clean = ToUtf8(text.substr(0, most_bytes + 4));
  if (text.size() <= most_bytes && clean.size() <= most_bytes) return clean;
  if (most_bytes < kCut.size()) return "";
  size_t end = std::min(clean.size(), most_bytes - kCut.size());
  while (end > 0 && end < clean.size() && IsContinuation(clean[end])) --end;
  clean.resize(end);
  return clean.append(kCut);
}

std::string Printable(std::string_view text, LineBreaks breaks) {
  const bool keeps = breaks == LineBreaks::kKept;
  return Rewrite(text, [&](std::string& out, std::string_view character, uint32_t code) {
    const bool before_line_feed = character.data() + 1 < text.data() + text.size() && character.data()[1] == '\n';
    if (!IsUnseen(code) || (keeps && (code == '\n' || code == '\t'))) {
      out += character;
    } else if (!(keeps && code == '\r' && before_line_feed)) {
      AppendEscaped(out, code);
    }
  });
}

std::string PrintableJson(std::string_view json) {
  return Rewrite(json, [](std::string& out, std::string_view character, uint32_t code) {
    if (!IsUnseen(code) || code < 0x20) {  // below a blank there is only layout: JSON strings have it escaped
      out += character;
    } else {
      fmt::format_to(std::back_inserter(out), "\\u{:04x}", code);
    }
  });
}

std::string CsvField(std::string_view text) {
  std::string field = Printable(text, LineBreaks::kKept);
  std::string_view shown = field;
  while (const size_t blank = BlankLength(shown)) shown.remove_prefix(blank);
  if (BeginsFormula(shown) && !IsNumber(shown)) field.insert(0, 1, '\'');
  if (field.find_first_of(",;\t\"\n") == std::string::npos) return field;
  std::string quoted = "\"";
  for (const char c : field) {
    if (c == '"') quoted += '"';
    quoted += c;
  }
  return quoted + '"';
}

absl::StatusOr<std::string> TokenIn(std::string_view text, std::string_view source) {
  const auto refuse = [&](std::string_view why) {
    return absl::InvalidArgumentError(
        fmt::format("{}: {}; expected the token alone on one line", Printable(source), why));
  };
  if (text.find('\0') != std::string_view::npos || text.starts_with("\xFF\xFE") || text.starts_with("\xFE\xFF")) {
    return refuse("it is not plain text (UTF-16?): save it as UTF-8");
  }
  while (const size_t blank = BlankLength(text)) text.remove_prefix(blank);
  std::string_view token = text.substr(0, text.find_first_of("\r\n"));
  while (const size_t blank = TrailingBlankLength(token)) token.remove_suffix(blank);
  if (token.empty()) return refuse("no token is there");
  for (size_t i = 0; i < token.size(); ++i) {
    if (token[i] > 0x20 && token[i] < 0x7F) continue;
    const std::string_view rest = token.substr(i);
    return refuse(fmt::format("its character {} is {}, which no token has", i + 1,
                              BlankLength(rest) > 0          ? "a blank"
                              : rest.starts_with("\xE2\x80") ? "a curly quotation mark or another typographic sign"
                              : static_cast<signed char>(rest[0]) < 0 ? "not an ASCII one"
                                                                      : "a control character"));
  }
  if (token.size() > 1 && token.front() == token.back() &&
      std::string_view("\"'`").find(token.front()) != std::string_view::npos) {
    return refuse("the token stands in quotation marks: remove them");
  }
  return std::string(token);
}

}  // namespace loupe

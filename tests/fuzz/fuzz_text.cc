// Text from outside: whatever the bytes are, what comes out is UTF-8, holds nothing a terminal obeys, is within its
// limit, and is the text itself where that was harmless.
#include <string_view>

#include "absl/status/status.h"
#include "common/text.h"
#include "tests/fuzz/fuzz_target.h"

namespace loupe::fuzz {
namespace {

bool IsUtf8(std::string_view text) { return FindNotUtf8(text) == std::string_view::npos; }

bool Holds(std::string_view text, std::string_view piece) { return text.find(piece) != std::string_view::npos; }

// The second formula for what must never come out: bytes, not code points.
bool IsHarmless(std::string_view text, std::string_view allowed) {
  for (const char c : text) {
    if ((static_cast<unsigned char>(c) < 0x20 || c == 0x7F) && allowed.find(c) == std::string_view::npos) return false;
  }
  for (int last = 0x80; last < 0xA0; ++last) {
    if (Holds(text, std::string("\xC2") + static_cast<char>(last))) return false;
  }
  for (const char* piece : {"\u202a", "\u202b", "\u202c", "\u202d", "\u202e", "\u2066", "\u2067", "\u2068", "\u2069",
                            "\u200e", "\u200f", "\u061c", "\u2028", "\u2029", "\ufeff"}) {
    if (Holds(text, piece)) return false;
  }
  return true;
}

}  // namespace

std::vector<std::string> Seeds() {
  return {"plain text",
          "caf\xe9.png",
          std::string(61, 'a') + "é and more",
          "\x1b[2Jx\u202ey\r\n",
          "=cmd|' /C calc'!A0",
          "\xef\xbb\xbftoken-1234\n",
          "“token”",
          "-1.5e-3",
          "漢字 😀 👩\u200d🔬"};
}

std::vector<std::string> Dictionary() {
  return {"\x1b[",
          "\xc2\x9b",
          "\u202e",
          "\u2066",
          "\r\n",
          "\t",
          "=",
          "-",
          "@",
          "\"",
          ",",
          "\xef\xbb\xbf",
          "\xff\xfe",
          "\xed\xa0\x80",
          "\xf4\x90\x80\x80",
          "é",
          "漢",
          "😀",
          "…",
          "\xc2\xa0",
          "\u200b",
          "\x7f"};
}

int DefaultRuns() { return 20000; }

}  // namespace loupe::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace loupe;        // NOLINT: one function
  using namespace loupe::fuzz;  // NOLINT
  const std::string_view text(reinterpret_cast<const char*>(data), size);

  const std::string clean = ToUtf8(text);
  Require(IsUtf8(clean) && ToUtf8(clean) == clean, "ToUtf8 gives UTF-8");
  Require((clean == text) == IsUtf8(text), "UTF-8 stays as it is, and nothing else does");

  const std::string line = Printable(text), page = Printable(text, LineBreaks::kKept);
  Require(IsUtf8(line) && IsHarmless(line, ""), "a line is harmless");
  Require(IsUtf8(page) && IsHarmless(page, "\n\t"), "a page is harmless");
  Require(Printable(line) == line, "what is printable stays");

  for (const size_t most : {size_t{0}, size_t{3}, size / 2, size, size + 1, size_t{64}}) {
    const std::string cut = Shortened(text, most);
    Require(IsUtf8(cut) && cut.size() <= most, "a shortened text keeps its limit");
    Require(clean.size() > most || cut == clean, "what fits is not cut");
  }

  const std::string field = CsvField(text);
  Require(IsUtf8(field) && IsHarmless(field, "\n\t"), "a field is harmless");
  const char first = field.empty() ? ' ' : field.front() == '"' ? field[1] : field.front();
  const bool number = field.find_first_not_of("0123456789.eE+-") == std::string::npos;
  Require(std::string_view("=@").find(first) == std::string_view::npos || field.size() == 1, "no field is a formula");
  Require(std::string_view("+-").find(first) == std::string_view::npos || number, "no field is a formula with a sign");

  const auto token = TokenIn(text, "file");
  if (token.ok()) {
    Require(
        !token->empty() &&
            token->find_first_not_of(
                "!\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~") ==
                std::string::npos,
        "a token is visible ASCII");
    Require(Holds(text, *token), "a token stood in the text");
  } else {
    Require(absl::IsInvalidArgument(token.status()) && IsHarmless(std::string(token.status().message()), ""),
            "a refusal is a sentence");
  }
  return 0;
}

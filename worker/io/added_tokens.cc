#include "worker/io/added_tokens.h"

#include <unicode/uchar.h>
#include <unicode/unistr.h>

#include <algorithm>
#include <utility>

namespace loupe::worker::io {
namespace {

// What Rust's regular expressions call \w (Unicode TR 18, annex C).
bool IsWordCharacter(UChar32 c) {
  return u_hasBinaryProperty(c, UCHAR_ALPHABETIC) || u_hasBinaryProperty(c, UCHAR_JOIN_CONTROL) ||
         (U_GET_GC_MASK(c) & (U_GC_M_MASK | U_GC_ND_MASK | U_GC_PC_MASK)) != 0;
}

// Of well-formed UTF-8: the character that begins at `at`, and where the next one does.
std::pair<UChar32, size_t> CharacterAt(std::string_view text, size_t at) {
  size_t end = at + 1;
  while (end < text.size() && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) ++end;
  const icu::StringPiece bytes(text.data() + at, static_cast<int32_t>(end - at));
  return {icu::UnicodeString::fromUTF8(bytes).char32At(0), end};
}

// Where the last character before `end` begins.
size_t BeginOfLast(std::string_view text, size_t end) {
  size_t begin = end - 1;
  while (begin > 0 && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) --begin;
  return begin;
}

bool BeginsWithWord(std::string_view text) { return !text.empty() && IsWordCharacter(CharacterAt(text, 0).first); }

bool EndsWithWord(std::string_view text) {
  return !text.empty() && IsWordCharacter(CharacterAt(text, BeginOfLast(text, text.size())).first);
}

size_t BlanksAtFront(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    const auto [c, next] = CharacterAt(text, at);
    if (u_isUWhiteSpace(c) == 0) break;
    at = next;
  }
  return at;
}

// Where the white space at the end of `text` begins.
size_t BlanksAtEnd(std::string_view text) {
  size_t end = text.size();
  while (end > 0) {
    const size_t begin = BeginOfLast(text, end);
    if (u_isUWhiteSpace(CharacterAt(text, begin).first) == 0) break;
    end = begin;
  }
  return end;
}

}  // namespace

void TokenSplitter::Add(std::string pattern, const AddedToken& token, int64_t id) {
  const auto same = [&](const Entry& entry) { return entry.pattern == pattern; };
  if (pattern.empty() || std::any_of(entries_.begin(), entries_.end(), same)) return;
  entries_.push_back({std::move(pattern), token, id});
}

std::vector<TokenOrText> TokenSplitter::Split(std::string_view text) const {
  std::vector<TokenOrText> parts;
  size_t done = 0;  // up to here the text is in `parts`
  for (size_t from = 0; from < text.size();) {
    size_t at = std::string_view::npos;
    const Entry* next = nullptr;
    for (const Entry& entry : entries_) {
      const size_t found = text.find(entry.pattern, from);
      if (found == std::string_view::npos) continue;
      if (found < at || (found == at && entry.pattern.size() > next->pattern.size())) {
        at = found;
        next = &entry;
      }
    }
    if (next == nullptr) break;
    size_t begin = at, end = at + next->pattern.size();
    from = end;  // the next search begins here, whatever white space is taken below
    if (next->token.single_word && (EndsWithWord(text.substr(0, begin)) || BeginsWithWord(text.substr(end)))) continue;
    if (next->token.lstrip) begin = std::max(BlanksAtEnd(text.substr(0, begin)), done);
    if (next->token.rstrip) end += BlanksAtFront(text.substr(end));
    if (done < begin) parts.push_back({std::nullopt, text.substr(done, begin - done)});
    parts.push_back({next->id, {}});
    done = end;
  }
  if (done < text.size()) parts.push_back({std::nullopt, text.substr(done)});
  return parts;
}

}  // namespace loupe::worker::io

#include "worker/io/word_pattern.h"

#include <unicode/uchar.h>

#include <cstdint>
#include <initializer_list>
#include <string_view>

namespace loupe::worker::io {
namespace {

enum class CharacterClass { kLetter, kNumber, kSpace, kOther };

CharacterClass ClassOf(UChar32 c) {
  if ((U_GET_GC_MASK(c) & U_GC_L_MASK) != 0) return CharacterClass::kLetter;
  if ((U_GET_GC_MASK(c) & U_GC_N_MASK) != 0) return CharacterClass::kNumber;
  return u_isUWhiteSpace(c) ? CharacterClass::kSpace : CharacterClass::kOther;
}

// The length of the first of `words` that stands at `at`, 0 if there is none.
int32_t OneOfAt(const icu::UnicodeString& text, int32_t at, std::initializer_list<std::u16string_view> words) {
  for (const std::u16string_view word : words) {
    const auto length = static_cast<int32_t>(word.size());
    if (text.compare(at, length, word.data(), 0, length) == 0) return length;
  }
  return 0;
}

}  // namespace

std::vector<std::string> ClipWords(const icu::UnicodeString& text) {
  std::vector<std::string> words;
  for (int32_t begin = 0; begin < text.length();) {
    const CharacterClass kind = ClassOf(text.char32At(begin));
    int32_t end = text.moveIndex32(begin, 1);
    if (const int32_t special = OneOfAt(text, begin, {u"<|startoftext|>", u"<|endoftext|>"}); special > 0) {
      // Cut again, by the byte-level step: a run, a letter run and a run.
      end = begin + special;
      text.tempSubStringBetween(begin, begin + 2).toUTF8String(words.emplace_back());
      text.tempSubStringBetween(begin + 2, end - 2).toUTF8String(words.emplace_back());
      begin = end - 2;
    } else if (const int32_t contraction = OneOfAt(text, begin, {u"'s", u"'t", u"'re", u"'ve", u"'m", u"'ll", u"'d"});
               contraction > 0) {
      end = begin + contraction;
    } else if (kind == CharacterClass::kLetter || kind == CharacterClass::kOther) {
      while (end < text.length() && ClassOf(text.char32At(end)) == kind) end = text.moveIndex32(end, 1);
    }
    if (kind != CharacterClass::kSpace) {
      text.tempSubStringBetween(begin, end).toUTF8String(words.emplace_back());
    }
    begin = end;
  }
  return words;
}

}  // namespace loupe::worker::io

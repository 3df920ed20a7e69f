#include "worker/io/word_pattern.h"

#include <unicode/uchar.h>

#include <cstdint>
#include <string_view>

namespace loupe::worker {
namespace {

enum class CharacterClass { kLetter, kNumber, kSpace, kOther };

CharacterClass ClassOf(UChar32 c) {
  if ((U_GET_GC_MASK(c) & U_GC_L_MASK) != 0) return CharacterClass::kLetter;
  if ((U_GET_GC_MASK(c) & U_GC_N_MASK) != 0) return CharacterClass::kNumber;
  return u_isUWhiteSpace(c) ? CharacterClass::kSpace : CharacterClass::kOther;
}

// The length of the contraction at `at`, 0 if there is none. In the pattern's order; none is another's beginning.
int32_t ContractionAt(const icu::UnicodeString& text, int32_t at) {
  for (const std::u16string_view contraction : {u"'s", u"'t", u"'re", u"'ve", u"'m", u"'ll", u"'d"}) {
    const auto length = static_cast<int32_t>(contraction.size());
    if (text.compare(at, length, contraction.data(), 0, length) == 0) return length;
  }
  return 0;
}

}  // namespace

std::vector<std::string> ClipWords(const icu::UnicodeString& text) {
  std::vector<std::string> words;
  for (int32_t begin = 0; begin < text.length();) {
    const CharacterClass kind = ClassOf(text.char32At(begin));
    int32_t end = text.moveIndex32(begin, 1);
    if (const int32_t contraction = ContractionAt(text, begin); contraction > 0) {
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

}  // namespace loupe::worker

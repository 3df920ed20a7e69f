// CLIP's cut of normalised text into words.
#pragma once

#include <unicode/unistr.h>

#include <string>
#include <vector>

namespace loupe::worker {

// The matches, left to right, as UTF-8, of
//   's|'t|'re|'ve|'m|'ll|'d | letters (\p{L}+) | one number character (\p{N}) | a run of neither those nor white space
// `text` is already lower case. A special token that only appears once the text is in lower case is a run, a letter run
// and a run, as any other text would be.
std::vector<std::string> ClipWords(const icu::UnicodeString& text);

}  // namespace loupe::worker

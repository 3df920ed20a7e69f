// CLIP's cut of normalised text into words.
#pragma once

#include <unicode/unistr.h>

#include <string>
#include <vector>

namespace loupe::worker::io {

// The matches, left to right, as UTF-8, of
//   <|startoftext|> | <|endoftext|> | 's|'t|'re|'ve|'m|'ll|'d | letters (\p{L}+) | one number character (\p{N})
//   | a run of neither those nor white space
// `text` is already lower case. The first two, which are special tokens only where the text had them before it was in
// lower case, are three words each ("<|", "endoftext", "|>"): all that is different from other text is that the last
// one ends there.
std::vector<std::string> ClipWords(const icu::UnicodeString& text);

}  // namespace loupe::worker::io

// What a text tower never sees of a prompt: everything after its last position. No LibTorch, so that a plan can say it
// too.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "worker/io/clip_tokenizer.h"

namespace loupe::worker::io {

// Ids per prompt of the base in `folder` (diffusers' layout), bos and eos among them: the tokenizer's limit or the
// positions of text_encoder/config.json, the lesser. Errors of that file.
absl::StatusOr<int64_t> PromptLength(const std::string& folder, const ClipTokenizer& tokenizer);

// The end of `text` that Encode(text, length) cuts off, from the first word that it does not keep whole; empty when it
// keeps all.
std::string_view CutOff(const ClipTokenizer& tokenizer, std::string_view text, int64_t length);

// A sentence that says so, with the prompt shortened; "" when nothing is cut off.
std::string DescribeCutOff(const ClipTokenizer& tokenizer, std::string_view text, int64_t length);

}  // namespace loupe::worker::io

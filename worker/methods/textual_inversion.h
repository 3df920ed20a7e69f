// Textual inversion (Gal et al. 2022, arXiv 2208.01618): the vectors of one word are trained, n rows of the text
// encoder's token embedding, and nothing else of the base.
//
// A word that the tokenizer has as one token, with one vector, is learned in its place: its row is overlaid. Any other
// is added to the tokenizer for the method's slots, as transformers' add_tokens does, with ids behind the vocabulary.
// All other rows are the base's own, to the bit.
#pragma once

#include <memory>
#include <string>

#include "worker/methods/files/embedding_files.h"
#include "worker/methods/method.h"

namespace loupe::worker::methods {

// Slots may differ in everything. Reads method.{token, vectors, initialiser}, and the task's prompts where these are
// not set. Throws c10::Error with a sentence where the word, the initialiser or the prompts do not fit together.
MethodMaker MakeTextualInversion;

// One slot, `range.first`, with a file's vectors for the word `token`. Throws as above.
std::unique_ptr<Method> MakeInversionOf(const files::EmbeddingFile& file, const std::string& token,
                                        const nn::TuningSites& sites, const nn::SlotRange& range, torch::Device device);

// The words of the instance prompt that the class prompt lacks, as one text: "sks" of "a photo of sks dog" and "a photo
// of dog". Empty where they are none, are apart from each other, or the settings have no such prompts.
std::string WordOfPrompts(const settings::Settings& settings);

}  // namespace loupe::worker::methods

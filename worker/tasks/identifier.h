// The rare token that stands for a DreamBooth subject: what a prompt's {identifier} becomes.
//
// A word that the base already has a picture of, and one that falls into several tokens, are the two known mistakes
// (Ruiz et al. 2023, arXiv 2208.12242 §3.2): training has to work against the first, and ties the subject to the parts
// of the second.
#pragma once

#include <string>
#include <vector>

#include "common/settings/settings.h"
#include "worker/sampling/picture_sampler.h"
#include "worker/tasks/shared_inputs.h"

namespace loupe::worker::tasks {

struct Identified {
  // As given, but for the instance prompt, which has the word, and task.identifier, which is the word.
  settings::Settings settings;
  // Empty where the prompts have no {identifier}.
  std::string word;
  // What is unfortunate about the word, as sentences.
  std::vector<std::string> notes;
};

// `auto` is the word of three letters or fewer, one token among the rarer half, that changes the base's noise
// prediction least: mean |ε̂(prompt with it) − ε̂(prompt without)| on noised grey. Kept in the cache. The same base and
// prompt give the same word; where rounding leaves two as weak as each other, the rarer one. Throws UserError where
// prompts and setting do not go together, and as SharedInputs.
Identified PutInIdentifier(const settings::Settings& settings, SharedInputs& inputs,
                           const sampling::SampleProgress& progress);

}  // namespace loupe::worker::tasks

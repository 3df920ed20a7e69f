// Prompts of a sweep against the text towers of its bases, before anything runs.
#pragma once

#include <string>
#include <vector>

#include "coordinator/plan/plan.h"

namespace loupe::cli {

// A sentence for each prompt that a base of the plan cuts off, with what is lost, and for each base whose tokenizer is
// not on this machine or cannot be read: that its prompts have not been checked. Captions of a data set are the
// workers' to check.
std::vector<std::string> PromptNotes(const coordinator::plan::Plan& plan);

}  // namespace loupe::cli

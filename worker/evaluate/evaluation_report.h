// An evaluation for people and for programs. No LibTorch in this header.
#pragma once

#include <string>

#include "worker/evaluate/evaluate_base.h"

namespace loupe::worker::evaluate {

// A table in Markdown, a score to a row and a set of pictures to a column, as a model card has it; notes below.
std::string EvaluationMarkdown(const Evaluation& evaluation);

// docs/formats.md has its keys. Numbers in full.
std::string EvaluationJson(const Evaluation& evaluation);

}  // namespace loupe::worker::evaluate

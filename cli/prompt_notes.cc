#include "cli/prompt_notes.h"

#include <filesystem>
#include <system_error>

#include "common/status_macros.h"
#include "fmt/format.h"
#include "worker/io/base_folder.h"
#include "worker/io/clip_tokenizer.h"
#include "worker/io/prompt_length.h"

namespace loupe::cli {
namespace {

absl::StatusOr<std::vector<std::string>> CutOffs(const std::string& base,
                                                 const std::vector<std::pair<std::string, std::string>>& prompts) {
  LOUPE_ASSIGN_OR_RETURN(const auto tokenizer, worker::io::ClipTokenizer::Load(base + "/tokenizer"));
  LOUPE_ASSIGN_OR_RETURN(const int64_t length, worker::io::PromptLength(base, tokenizer));
  std::vector<std::string> notes;
  for (const auto& [key, prompt] : prompts) {
    const std::string cut = worker::io::DescribeCutOff(tokenizer, prompt, length);
    if (!cut.empty()) notes.push_back(fmt::format("{}: {}", key, cut));
  }
  return notes;
}

}  // namespace

std::vector<std::string> PromptNotes(const coordinator::plan::Plan& plan) {
  std::vector<std::pair<std::string, std::string>> prompts;
  for (const char* key : {"task.instance_prompt", "task.class_prompt"}) {
    for (const std::string& prompt : plan.ValuesOf(key)) prompts.emplace_back(key, prompt);
  }
  std::vector<std::string> notes;
  if (prompts.empty()) return notes;
  std::error_code error;
  for (const std::string& base : plan.ValuesOf("base")) {
    if (!std::filesystem::exists(base, error)) {
      notes.push_back(fmt::format(
          "base: {} is not on this machine, so whether its text tower takes the prompts whole is not checked; the report will say",
          base));
      continue;
    }
    // Of classes nothing is cut off (base_check.h holds them to the base's).
    const absl::StatusOr<worker::io::BaseKind> kind = worker::io::BaseKindOf(base);
    if (kind.ok() && *kind != worker::io::BaseKind::kUNet) continue;
    absl::StatusOr<std::vector<std::string>> found = CutOffs(base, prompts);
    if (!found.ok()) {
      notes.push_back(fmt::format("base: whether its text tower takes the prompts whole is not checked: {}",
                                  std::string(found.status().message())));
      continue;
    }
    notes.insert(notes.end(), found->begin(), found->end());
  }
  return notes;
}

}  // namespace loupe::cli

#include <memory>
#include <string>

#include "common/logging.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "worker/commands/commands.h"
#include "worker/executor/inspect_request.h"

namespace loupe::worker::commands {
namespace {

struct InspectFlags {
  std::string file;
  std::string base;
  std::string format = "text";
};

absl::Status Inspect(const InspectFlags& flags) {
  LOUPE_RETURN_IF_ERROR(InitLogging("loupe-worker", "warn"));
  LOUPE_ASSIGN_OR_RETURN(const executor::FileDescription description, executor::InspectFile(flags.file, flags.base));
  fmt::print("{}",
             flags.format == "json" ? executor::DescriptionJson(description) : executor::DescriptionText(description));
  return absl::OkStatus();
}

}  // namespace

void AddInspectCommand(CLI::App& app, int& exit_code) {
  auto* command = app.add_subcommand("inspect", "Say what a LoRA, embedding, hypernetwork or adapter file is");
  const auto flags = std::make_shared<InspectFlags>();
  command->add_option("file", flags->file, "The file, or a LoRA's folder of peft's")->required();
  command->add_option("--base", flags->base, "Folder of a base: says whether the file fits it");
  command->add_option("--format", flags->format, "text or json")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str();
  command->callback([flags, &exit_code] { exit_code = Report("inspect", Inspect(*flags)); });
}

}  // namespace loupe::worker::commands

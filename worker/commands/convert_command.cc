#include <memory>
#include <string>
#include <vector>

#include "common/logging.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "worker/commands/commands.h"
#include "worker/executor/export_request.h"

namespace loupe::worker::commands {
namespace {

absl::Status Convert(const executor::ConvertRequest& request) {
  LOUPE_RETURN_IF_ERROR(InitLogging("loupe-worker", "warn"));
  LOUPE_RETURN_IF_ERROR(executor::ConvertToFolder(request));
  fmt::print("{}\n", request.out);
  return absl::OkStatus();
}

}  // namespace

void AddConvertCommand(CLI::App& app, int& exit_code) {
  auto* command = app.add_subcommand("convert", "Write a LoRA, embedding or hypernetwork in another program's form");
  const auto request = std::make_shared<executor::ConvertRequest>();
  const auto layout = std::make_shared<std::string>();
  command
      ->add_option("file", request->file, "A trial's adapter.safetensors or another program's file (or peft's folder)")
      ->required();
  std::string layouts;
  std::vector<std::string> names;
  for (const methods::ExportLayoutName& known : methods::kExportLayouts) {
    if (!methods::IsFileForm(known.layout)) continue;
    layouts += fmt::format("{}{}: {}", layouts.empty() ? "" : "; ", known.name, known.description);
    names.emplace_back(known.name);
  }
  command->add_option("--as", *layout, layouts)->check(CLI::IsMember(names))->required();
  command->add_option("--out", request->out, "New folder")->required();
  command->add_option("--base", request->base, "Folder of the base whose layers another program's LoRA names");
  command->add_option("--name", request->name, "An embedding's word, or a hypernetwork's name, from now on");
  command->callback([request, layout, &exit_code] {
    for (const methods::ExportLayoutName& known : methods::kExportLayouts) {
      if (known.name == *layout) request->layout = known.layout;
    }
    exit_code = Report("convert", Convert(*request));
  });
}

}  // namespace loupe::worker::commands

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

absl::Status Export(const executor::ExportRequest& request) {
  LOUPE_RETURN_IF_ERROR(InitLogging("loupe-worker", "warn"));
  LOUPE_RETURN_IF_ERROR(executor::ExportToFolder(request));
  fmt::print("{}\n", request.out);
  return absl::OkStatus();
}

}  // namespace

void AddExportCommand(CLI::App& app, int& exit_code) {
  auto* command = app.add_subcommand("export", "Write a tuned base, or its adapter, as other programs read it");
  const auto request = std::make_shared<executor::ExportRequest>();
  const auto layout = std::make_shared<std::string>("merged");
  command->add_option("--base", request->base, "Folder of the base that the adapter was trained on")->required();
  command
      ->add_option(
          "--adapter", request->adapter,
          "A trial's adapter.safetensors, or another program's LoRA (a file, or peft's folder), embedding or hypernetwork")
      ->required();
  command->add_option("--out", request->out, "New folder")->required();
  std::string layouts;
  std::vector<std::string> names;
  for (const methods::ExportLayoutName& known : methods::kExportLayouts) {
    layouts += fmt::format("{}{}: {}", layouts.empty() ? "" : "; ", known.name, known.description);
    names.emplace_back(known.name);
  }
  command->add_option("--as", *layout, layouts)->check(CLI::IsMember(names))->capture_default_str();
  command->add_flag("--half", request->half, "merged: weights in float16");
  command->callback([request, layout, &exit_code] {
    for (const methods::ExportLayoutName& known : methods::kExportLayouts) {
      if (known.name == *layout) request->layout = known.layout;
    }
    exit_code = Report("export", Export(*request));
  });
}

}  // namespace loupe::worker::commands

#include <memory>
#include <string>

#include "common/logging.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "worker/commands/commands.h"
#include "worker/executor/export_request.h"

namespace loupe::worker {
namespace {

absl::Status Export(const ExportRequest& request) {
  LOUPE_RETURN_IF_ERROR(InitLogging("loupe-worker", "warn"));
  LOUPE_RETURN_IF_ERROR(ExportToFolder(request));
  fmt::print("{}\n", request.out);
  return absl::OkStatus();
}

}  // namespace

void AddExportCommand(CLI::App& app, int& exit_code) {
  auto* command = app.add_subcommand("export", "Write a tuned base, or its adapter, as other programs read it");
  const auto request = std::make_shared<ExportRequest>();
  const auto layout = std::make_shared<std::string>("merged");
  command->add_option("--base", request->base, "Folder of the base that the adapter was trained on")->required();
  command->add_option("--adapter", request->adapter, "Adapter file (a trial's adapter.safetensors)")->required();
  command->add_option("--out", request->out, "New folder")->required();
  command
      ->add_option(
          "--as", *layout,
          "merged: a diffusers folder with the adapter in the UNet's weights (linear cells only); bundle: the "
          "base's folder with adapter.safetensors in it; modules: one .pt file per module, as the paper's code "
          "reads them")
      ->check(CLI::IsMember({"merged", "bundle", "modules"}))
      ->capture_default_str();
  command->add_flag("--half", request->half, "merged: UNet weights in float16");
  command->callback([request, layout, &exit_code] {
    if (*layout == "bundle") request->layout = ExportLayout::kBundle;
    if (*layout == "modules") request->layout = ExportLayout::kModules;
    exit_code = Report("export", Export(*request));
  });
}

}  // namespace loupe::worker

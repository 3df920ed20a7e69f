#include <memory>

#include "common/logging.h"
#include "common/status_macros.h"
#include "worker/commands/commands.h"
#include "worker/executor/sample_request.h"

namespace loupe::worker::commands {
namespace {

absl::Status Sample(const executor::SampleRequest& request) {
  LOUPE_RETURN_IF_ERROR(InitLogging("loupe-worker", "warn"));
  return executor::SampleToFile(request);
}

}  // namespace

void AddSampleCommand(CLI::App& app, int& exit_code) {
  auto* command = app.add_subcommand("sample", "Make pictures from a prompt, with or without an adapter");
  const auto request = std::make_shared<executor::SampleRequest>();
  command->add_option("--base", request->base, "Folder of the base model")->required();
  command->add_option(
      "--adapter", request->adapter,
      "A trial's adapter.safetensors, or another program's LoRA (a file, or peft's folder), embedding or hypernetwork");
  command->add_option("--prompt", request->prompt, "What to show")->required();
  command->add_option("--out", request->out, "PNG file")->required();
  command->add_option("--count", request->count, "Pictures; more than one make a sheet")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_option("--seed", request->seed, "Of the initial noise")->capture_default_str();
  command->add_option("--sampler", request->sampler, "Sampler")
      ->check(CLI::IsMember({"dpm-solver++", "ddim"}))
      ->capture_default_str();
  command->add_option("--steps", request->steps, "Sampling steps")->check(CLI::Range(1, 1000))->capture_default_str();
  command->add_option("--guidance", request->guidance, "Scale of classifier-free guidance")->capture_default_str();
  command->add_option("--device", request->device, "auto, cpu, cuda or cuda:N")->capture_default_str();
  command->add_option("--threads", request->threads, "CPU threads; 0: all cores")->check(CLI::NonNegativeNumber);
  command->callback([request, &exit_code] { exit_code = Report("sample", Sample(*request)); });
}

}  // namespace loupe::worker::commands

#include <memory>

#include "common/logging.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "fmt/ranges.h"
#include "worker/commands/commands.h"
#include "worker/executor/noise_difference_request.h"

namespace loupe::worker::commands {
namespace {

double Mean(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

absl::Status NoiseDiff(const executor::NoiseDifferenceRequest& request) {
  LOUPE_RETURN_IF_ERROR(InitLogging("loupe-worker", "warn"));
  LOUPE_ASSIGN_OR_RETURN(const executor::NoiseDifference result, executor::WriteNoiseDifference(request));
  const auto print = [](const char* model, const std::vector<double>& values) {
    fmt::print("{:<10} {:.5f}   at each timestep: {:.5f}\n", model, Mean(values), fmt::join(values, "  "));
  };
  fmt::print("mean |difference of predicted noise|, timesteps {}\n", fmt::join(result.timesteps, ", "));
  print(request.adapter.empty() ? "base" : "tuned", result.tuned);
  if (!result.untuned.empty()) print("untuned", result.untuned);
  fmt::print("{}: black is {:.4f} and more; one row per timestep{}\n", request.out, result.full_scale,
             result.untuned.empty() ? "" : "; tuned on the left, untuned on the right");
  return absl::OkStatus();
}

}  // namespace

void AddNoiseDiffCommand(CLI::App& app, int& exit_code) {
  auto* command = app.add_subcommand(
      "noise-diff", "Where the predicted noise differs between the prompts with and without the identifier");
  const auto request = std::make_shared<executor::NoiseDifferenceRequest>();
  command->add_option("--base", request->base, "Folder of the base model")->required();
  command->add_option("--adapter", request->adapter, "Adapter file (a trial's adapter.safetensors)");
  command->add_option("--prompt", request->prompt, "With the identifier (default: the adapter's instance prompt)");
  command->add_option("--class-prompt", request->class_prompt, "Without it (default: the adapter's class prompt)");
  command->add_option(
      "--images", request->images,
      "Folder of pictures of the class, of which four are used (default: sampled from the untuned base)");
  command->add_option("--out", request->out, "PNG file")->required();
  command->add_option("--seed", request->seed, "Of the noise, and of the sampled pictures")->capture_default_str();
  command->add_option("--steps", request->steps, "Sampling steps")->check(CLI::Range(2, 999))->capture_default_str();
  command->add_option("--guidance", request->guidance, "Scale of classifier-free guidance")->capture_default_str();
  command->add_option("--device", request->device, "auto, cpu, cuda or cuda:N")->capture_default_str();
  command->add_option("--threads", request->threads, "CPU threads; 0: all cores")->check(CLI::NonNegativeNumber);
  command->callback([request, &exit_code] { exit_code = Report("noise-diff", NoiseDiff(*request)); });
}

}  // namespace loupe::worker::commands

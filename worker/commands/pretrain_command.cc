#include <memory>
#include <string>

#include "common/logging.h"
#include "common/status_macros.h"
#include "worker/commands/commands.h"
#include "worker/pretrain/pretrain_from_file.h"

namespace loupe::worker::commands {
namespace {

struct PretrainFlags {
  std::string config;
  std::string out;
  std::string device = "cpu";
  std::string log_level;
  double hours = 0;
};

absl::Status RunPretrain(const PretrainFlags& flags) {
  LOUPE_RETURN_IF_ERROR(InitLogging("pretrain", flags.log_level));
  return pretrain::PretrainFromFile(flags.config, flags.out, flags.hours, flags.device);
}

}  // namespace

void AddPretrainCommand(CLI::App& app, int& exit_code) {
  auto* command = app.add_subcommand(
      "pretrain", "Train a base model from a list of emoji: tokenizer, autoencoder, CLIP; UNet, DiT or DiffuSSM");
  const auto flags = std::make_shared<PretrainFlags>();
  command->add_option("config", flags->config, "What to train (configs/bases/*.yaml)")->required();
  command->add_option("--out", flags->out, "Folder for checkpoints, sheets and the model; the same folder goes on")
      ->required();
  command
      ->add_option("--hours", flags->hours,
                   "Stop after this long, to go on later with the same command; 0: until finished")
      ->check(CLI::NonNegativeNumber);
  // Not "auto": a run that is going on must not change its rounding with the machine's drivers.
  command->add_option("--device", flags->device, "auto, cpu, cuda or cuda:N")->capture_default_str();
  command->add_option("--log-level", flags->log_level, "trace, debug, info, warn, error or off");
  command->callback([flags, &exit_code] { exit_code = Report("pretrain", RunPretrain(*flags)); });
}

}  // namespace loupe::worker::commands

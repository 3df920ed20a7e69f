// The sub-command's command line.
#include <cstdio>

#include "CLI/CLI.hpp"
#include "common/logging.h"
#include "fmt/format.h"
#include "worker/pretrain/pretrain.h"

namespace loupe::worker {

int PretrainMain(int argc, char** argv) {
  CLI::App app("Trains a base model from a list of emoji: tokenizer, autoencoder, CLIP, UNet.", "loupe-worker pretrain");
  std::string config_path, out, log_level;
  double hours = 0;
  app.add_option("config", config_path, "What to train (configs/bases/*.yaml)")->required();
  app.add_option("--out", out, "Folder for checkpoints, sheets and the model; the same folder goes on")->required();
  app.add_option("--hours", hours, "Stop after this long, to go on later with the same command; 0: until finished");
  app.add_option("--log-level", log_level, "trace, debug, info, warn, error or off");
  CLI11_PARSE(app, argc, argv);

  const auto fail = [](const absl::Status& status) {
    fmt::print(stderr, "loupe-worker pretrain: {}\n",
               std::string_view(status.message().data(), status.message().size()));
    return 1;
  };
  if (const auto status = InitLogging("pretrain", log_level); !status.ok()) return fail(status);
  const auto config = PretrainConfig::Read(config_path);
  if (!config.ok()) return fail(config.status());
  StageLimit limit;
  if (hours > 0) limit = {.clock = &SystemClock(), .deadline = SystemClock().MonotonicNow() + absl::Hours(hours)};
  if (const auto status = Pretrain(*config, out, limit); !status.ok()) return fail(status);
  return 0;
}

}  // namespace loupe::worker

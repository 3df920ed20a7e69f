#include <memory>
#include <string>

#include "common/logging.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "worker/bench/roofline.h"
#include "worker/commands/commands.h"

namespace loupe::worker::commands {
namespace {

struct BenchFlags {
  bench::RooflineRequest request;
  std::string mode = "both";
  std::string format = "text";
};

absl::Status Bench(BenchFlags flags) {
  LOUPE_RETURN_IF_ERROR(InitLogging("loupe-worker", "warn"));
  flags.request.train = flags.mode != "sample";
  flags.request.sample = flags.mode != "train";
  LOUPE_ASSIGN_OR_RETURN(const bench::Roofline roofline, bench::MeasureRoofline(flags.request));
  fmt::print("{}", flags.format == "json" ? bench::RooflineJson(roofline) : bench::RooflineMarkdown(roofline));
  return absl::OkStatus();
}

}  // namespace

void AddBenchCommand(CLI::App& app, int& exit_code) {
  auto* command = app.add_subcommand(
      "bench", "Where a base's training and sampling time goes, by kind of module, beside what this machine can do");
  const auto flags = std::make_shared<BenchFlags>();
  bench::RooflineRequest& request = flags->request;
  command->add_option("--base", request.base, "Folder of the base model")->required();
  command->add_option("--mode", flags->mode, "What is measured")
      ->check(CLI::IsMember({"train", "sample", "both"}))
      ->capture_default_str();
  command->add_option("--batch", request.batch, "Rows of a training step; pictures that are sampled together")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  command->add_option("--repeats", request.repeats, "Measured steps, after two that warm up; the median counts")
      ->check(CLI::Range(1, 10000))
      ->capture_default_str();
  command->add_option("--precision", request.precision, "Of the training step")
      ->check(CLI::IsMember({"float32", "bf16"}))
      ->capture_default_str();
  command->add_option("--format", flags->format, "text (Markdown tables) or json")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str();
  command->add_option("--device", request.device, "auto, cpu, cuda or cuda:N")->capture_default_str();
  command->add_option("--threads", request.threads, "CPU threads; 0: all cores")->check(CLI::NonNegativeNumber);
  command->callback([flags, &exit_code] { exit_code = Report("bench", Bench(*flags)); });
}

}  // namespace loupe::worker::commands

#include <memory>
#include <string>

#include "common/logging.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "worker/commands/commands.h"
#include "worker/evaluate/evaluate_base.h"
#include "worker/evaluate/evaluation_report.h"

namespace loupe::worker::commands {
namespace {

struct EvaluateFlags {
  evaluate::EvaluationRequest request;
  std::string format = "text";
  std::string log_level = "warn";
};

absl::Status Evaluate(const EvaluateFlags& flags) {
  LOUPE_RETURN_IF_ERROR(InitLogging("loupe-worker", flags.log_level));
  LOUPE_ASSIGN_OR_RETURN(const evaluate::Evaluation evaluation, evaluate::EvaluateBase(flags.request));
  fmt::print("{}",
             flags.format == "json" ? evaluate::EvaluationJson(evaluation) : evaluate::EvaluationMarkdown(evaluation));
  return absl::OkStatus();
}

}  // namespace

void AddEvaluateCommand(CLI::App& app, int& exit_code) {
  auto* command = app.add_subcommand(
      "evaluate", "Measure a base on pictures that it was trained on and on pictures held out, as a model card has it");
  const auto flags = std::make_shared<EvaluateFlags>();
  evaluate::EvaluationRequest& request = flags->request;
  command->add_option("--base", request.base, "Folder of the base model")->required();
  command->add_option("--scorer", request.scorer, "Folder of the CLIP model that looks")->required();
  auto* items = command->add_option(
      "--items", request.items, "The list of emoji that the base was trained on (configs/bases/emoji-sd/items.json)");
  command
      ->add_option("--pictures", request.pictures,
                   "Or the folders of pictures that it was trained on, each with a metadata.jsonl")
      ->excludes(items);
  command->add_option("--dino", request.networks["dino"], "Folder of a ViT that looks too");
  command->add_option("--inception", request.networks["inception"], "Weights of FID's network, which looks too");
  command->add_option("--efficientnet", request.networks["effnet"],
                      "Folder of an EfficientNet-Lite that looks too (deploy/image-network.sh)");
  command->add_option("--count", request.count, "Pictures of the base in each section, and real ones beside them")
      ->check(CLI::Range(2, 1000000))
      ->capture_default_str();
  command->add_option("--seed", request.seed, "Of the initial noise")->capture_default_str();
  command->add_option("--steps", request.steps, "Sampling steps")->check(CLI::Range(2, 999))->capture_default_str();
  command->add_option("--guidance", request.guidance, "Scale of classifier-free guidance")->capture_default_str();
  command->add_option("--out", request.out, "Folder for evaluation.json, evaluation.md and sheets to look at");
  command->add_option("--format", flags->format, "text (a Markdown table) or json")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str();
  command->add_option("--device", request.device, "auto, cpu, cuda or cuda:N")->capture_default_str();
  command->add_option("--threads", request.threads, "CPU threads; 0: all cores")->check(CLI::NonNegativeNumber);
  command->add_option("--log-level", flags->log_level, "trace, debug, info, warn, error or off")->capture_default_str();
  command->callback([flags, &exit_code] { exit_code = Report("evaluate", Evaluate(*flags)); });
}

}  // namespace loupe::worker::commands

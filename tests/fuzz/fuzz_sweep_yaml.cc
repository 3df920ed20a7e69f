// Sweep files: whatever the text, an answer in sentences; what is accepted plans, and survives the wire.
#include <google/protobuf/util/message_differencer.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "absl/status/status.h"
#include "coordinator/plan/plan.h"
#include "coordinator/plan/sweep_file.h"
#include "coordinator/plan_proto/spec_proto.h"
#include "tests/fuzz/fuzz_target.h"

namespace loupe::fuzz {

std::vector<std::string> Seeds() {
  std::vector<std::string> seeds = {
      "name: a\nbase: b\nscorer: c\ntask: {images: d, instance_prompt: e, class_prompt: f}\nmethod: {output: Trans_out}\n"
      "budget: {steps: 5}\nfactors: {input: [SA_in, CA_in], scale: [1, 2.5, 1e3]}\nreplicates: 3\nseed: 7\n",
      "name: a\nfactors: &f {scale: [1, 2]}\nother: *f\n",
      "name: a\nfactors: {scale: [\"\\u0000\", 2]}\n",
      "- [1, {a: b}]\n",
      "",
  };
  for (const auto& file : std::filesystem::directory_iterator("configs/sweeps")) {
    std::ifstream stream(file.path(), std::ios::binary);
    seeds.emplace_back(std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>());
  }
  return seeds;
}

std::vector<std::string> Dictionary() {
  return {"name:",     "factors:", "exclude:", "positions:", "replicates:", "seed:",  "priority:",
          "retry:",    "backoff:", "budget:",  "scale",      "input",       "output", "SA_in",
          "Trans_out", "Res_out",  "[",        "]",          "{",           "}",      "- ",
          ": ",        "&a",       "*a",       "!!int ",     "<<:",         "\n",     "  ",
          "~",         "null",     ".nan",     ".inf",       "1e309",       "-1",     "18446744073709551616",
          "0x",        "'",        "\"",       "\\u0000",    "|\n",         "? ",     "%YAML",
          "---",       "\t",       "#",        "../../etc"};
}

int DefaultRuns() { return 4000; }

}  // namespace loupe::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace loupe;               // NOLINT: one function
  using namespace loupe::coordinator;  // NOLINT
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  absl::StatusOr<plan::SweepFile> file = plan::ParseSweepFile(text, "fuzz.yaml");
  if (!file.ok()) {
    fuzz::Require(absl::IsInvalidArgument(file.status()) && !file.status().message().empty(),
                  "a refusal is a sentence");
    return 0;
  }
  absl::StatusOr<plan::SweepSpec> back = plan_proto::SpecFromProto(plan_proto::SpecToProto(file->spec));
  fuzz::Require(!back.ok() || file->spec.replicates < 1 ||
                    google::protobuf::util::MessageDifferencer::Equals(plan_proto::SpecToProto(*back),
                                                                       plan_proto::SpecToProto(file->spec)),
                "a specification survives the wire");
  plan::MakePathsAbsolute(file->spec, "/work");
  const absl::StatusOr<plan::Plan> plan = plan::Plan::Create(file->spec);
  if (!plan.ok()) {
    fuzz::Require(!plan::LocateInFile(plan.status(), *file).message().empty(), "a refusal is a sentence");
    return 0;
  }
  fuzz::Require(plan->cell_count() > 0 && plan->trial_count() >= plan->cell_count(), "an accepted plan has trials");
  plan->CellSettings(plan->cell_count() - 1);
  plan->CellLevels(0);
  return 0;
}

#include "tests/testing/fake_executor.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <thread>

#include "common/seed.h"
#include "common/sha256.h"
#include "fmt/format.h"

namespace loupe::testing {
namespace {

// Uniform in [0, 1), by the text.
double UnitFrom(const std::string& text) {
  return static_cast<double>(std::strtoull(Sha256Hex(text).substr(0, 13).c_str(), nullptr, 16)) / 4503599627370496.0;
}

// The smallest valid PNG: one grey pixel.
constexpr unsigned char kPixel[] = {0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0x00, 0x00, 0x00, 0x0d, 0x49, 0x48,
                                    0x44, 0x52, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x01, 0x08, 0x00, 0x00, 0x00,
                                    0x00, 0x3a, 0x7e, 0x9b, 0x55, 0x00, 0x00, 0x00, 0x0a, 0x49, 0x44, 0x41, 0x54, 0x78,
                                    0x9c, 0x63, 0x68, 0x00, 0x00, 0x00, 0x82, 0x00, 0x81, 0x77, 0xcd, 0x72, 0xb6, 0x00,
                                    0x00, 0x00, 0x00, 0x49, 0x45, 0x4e, 0x44, 0xae, 0x42, 0x60, 0x82};

worker::executor::AttemptOutcome Failed(worker::executor::FailureClass failure_class, std::string message) {
  worker::executor::AttemptOutcome outcome;
  outcome.kind = worker::executor::AttemptOutcome::Kind::kFailure;
  outcome.failure_class = failure_class;
  outcome.failure_message = std::move(message);
  return outcome;
}

worker::executor::AttemptOutcome StoppedOutcome() {
  worker::executor::AttemptOutcome outcome;
  outcome.kind = worker::executor::AttemptOutcome::Kind::kStopped;
  return outcome;
}

absl::Status HandOver(const worker::executor::AttemptSpec& spec, worker::executor::AttemptObserver& observer) {
  const std::string log = spec.scratch_folder + "/log.txt";
  std::ofstream(log) << "trial " << spec.trial << "\n";
  if (absl::Status status = observer.OnArtifact("log.txt", "text/plain", log); !status.ok()) return status;
  for (const char* name : {"samples.png", "samples-base.png", "subject.png"}) {
    const std::string picture = fmt::format("{}/{}", spec.scratch_folder, name);
    std::ofstream(picture, std::ios::binary).write(reinterpret_cast<const char*>(kPixel), sizeof kPixel);
    if (absl::Status status = observer.OnArtifact(name, "image/png", picture); !status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace

double FakeScore(const std::map<std::string, std::string>& cell, int64_t replicate, uint64_t sweep_seed) {
  double score = 0.5;
  std::string whole;
  for (const auto& [factor, level] : cell) {
    score += 0.1 * UnitFrom(factor + "=" + level);
    whole += factor + "=" + level + ";";
  }
  return score + 0.05 * UnitFrom(fmt::format("{}{}/{}", whole, replicate, sweep_seed));
}

worker::executor::AttemptOutcome FakeExecutor::Run(const worker::executor::AttemptSpec& spec,
                                                   worker::executor::AttemptObserver& observer) {
  for (const auto& [factor, level] : spec.cell) {
    if (!options_.poison_level.empty() && level == options_.poison_level) ::_exit(139);
  }
  for (const std::string& line : options_.log) observer.OnLog(worker::executor::LogLevel::kWarning, line);
  const auto start = std::chrono::steady_clock::now();
  const int points = std::max(1, options_.points);
  int64_t stopped_at = 0;
  for (int point = 1; point <= points; ++point) {
    const auto until = start + std::chrono::duration<double>(options_.seconds * point / points);
    while (std::chrono::steady_clock::now() < until) {
      if (observer.ShouldStop()) return StoppedOutcome();
      std::this_thread::sleep_for(
          std::chrono::milliseconds(std::min(5, static_cast<int>(options_.seconds * 1000) + 1)));
    }
    if (observer.ShouldStop()) return StoppedOutcome();
    observer.OnProgress("train", point, points);
    ++steps_;
    if (options_.points > 0) observer.OnMetric("loss", point, 1.0 / point);
    if (observer.FinishAfter() > 0 && observer.FinishAfter() <= point && point < points) {
      stopped_at = point;
      break;
    }
  }
  if (UnitFrom(fmt::format("{}#{}", spec.trial, spec.epoch)) < options_.failure_rate) {
    return Failed(worker::executor::FailureClass::kRetryable, "a failure on purpose");
  }
  if (options_.artifacts) {
    if (absl::Status status = HandOver(spec, observer); !status.ok()) {
      return absl::IsAborted(status)
                 ? StoppedOutcome()
                 : Failed(worker::executor::FailureClass::kRetryable, std::string(status.message()));
    }
  }
  worker::executor::AttemptOutcome outcome;
  outcome.kind = worker::executor::AttemptOutcome::Kind::kSuccess;
  outcome.scores["clip_i"] = FakeScore(spec.cell, spec.replicate, spec.sweep_seed);
  outcome.stopped_at_step = stopped_at;
  outcome.total_seconds = options_.seconds;
  outcome.train_seconds = options_.seconds;
  outcome.provenance["executor"] = "fake";
  outcome.provenance["warning.clip_i"] = "Nothing was trained.";
  outcome.provenance["note.prompts"] =
      "'a cat in a hat' has 5 tokens, and the text tower takes 2: 'in a hat' is cut off";
  return outcome;
}

}  // namespace loupe::testing

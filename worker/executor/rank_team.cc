#include "worker/executor/rank_team.h"

#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <utility>

#include "common/atomic_file.h"
#include "fmt/format.h"
#include "nlohmann/json.hpp"
#include "worker/ranks/step_hub.h"
#include "worker/runtime/user_error.h"

namespace loupe::worker::executor {
namespace {

constexpr std::chrono::milliseconds kLook{20};
constexpr std::chrono::milliseconds kLastLook{2000};

// MessagePack: paths and prompts may be any bytes.
std::string Packed(const nlohmann::json& json) {
  const std::vector<uint8_t> bytes = nlohmann::json::to_msgpack(json);
  return {bytes.begin(), bytes.end()};
}

int RanksOf(const AttemptSpec& spec, const RankOptions& options) {
  const int64_t ranks = spec.settings.Integer("train.devices");
  if (ranks > static_cast<int64_t>(options.devices.size())) {
    throw runtime::UserError(
        fmt::format("train.devices is {}, and this worker has {}: name that many with --device, such as cuda:0,cuda:1",
                    ranks, options.devices.size()));
  }
  return static_cast<int>(ranks);
}

}  // namespace

std::string EncodeJob(const RankJob& job) {
  return Packed({{"trial", job.spec.trial},
                 {"epoch", job.spec.epoch},
                 {"settings", std::map<std::string, std::string>(job.spec.settings.values().begin(),
                                                                 job.spec.settings.values().end())},
                 {"sweep_seed", job.spec.sweep_seed},
                 {"replicate", job.spec.replicate},
                 {"checkpoint_folder", job.spec.checkpoint_folder},
                 {"devices", job.options.devices},
                 {"threads", job.options.threads},
                 {"cache_folder", job.options.cache_folder},
                 {"meeting_file", job.meeting_file}});
}

absl::StatusOr<RankJob> DecodeJob(const std::string& bytes) {
  try {
    const auto json = nlohmann::json::from_msgpack(bytes);
    RankJob job;
    job.spec.trial = json.at("trial");
    job.spec.epoch = json.at("epoch");
    job.spec.sweep_seed = json.at("sweep_seed");
    job.spec.replicate = json.at("replicate");
    job.spec.checkpoint_folder = json.at("checkpoint_folder");
    job.options.devices = json.at("devices").get<std::vector<std::string>>();
    job.options.threads = json.at("threads");
    job.options.cache_folder = json.at("cache_folder");
    job.meeting_file = json.at("meeting_file");
    auto settings = settings::Settings::Create(json.at("settings").get<std::map<std::string, std::string>>(),
                                               settings::SettingDefaults::None(settings::kSettingsVersion));
    if (!settings.ok()) return settings.status();
    job.spec.settings = *std::move(settings);
    return job;
  } catch (const nlohmann::json::exception& error) {
    return absl::InvalidArgumentError(fmt::format("no rank's job: {}", error.what()));
  }
}

std::string EncodeCommand(const RankCommand& command) {
  const tasks::PictureOrder& order = command.order;
  const PicturesToEmbed& embed = command.embed;
  return Packed({static_cast<int>(command.kind), order.prompts, order.noise_seed, order.drawn, order.count,
                 embed.network, embed.count, embed.height, embed.width});
}

RankCommand DecodeCommand(const std::string& bytes) {
  const auto json = nlohmann::json::from_msgpack(bytes);
  return {
      .kind = static_cast<RankCommand::Kind>(json.at(0).get<int>()),
      .order = {.prompts = json.at(1).get<std::vector<std::string>>(),
                .noise_seed = json.at(2),
                .drawn = json.at(3),
                .count = json.at(4)},
      .embed = {
          .network = json.at(5).get<std::string>(), .count = json.at(6), .height = json.at(7), .width = json.at(8)}};
}

RankTeam::RankTeam(const AttemptSpec& spec, torch::Device device, const RankOptions& options,
                   const AttemptObserver& observer)
    : job_{spec, options, spec.scratch_folder + "/ranks-meeting"}, ranks_(RanksOf(spec, options)), observer_(observer) {
  if (options.step != nullptr) {
    place_ = options.step->Start(EncodeJob(job_), ranks_);
    place_.device = device;
    return;
  }
  place_ = {.meeting_file = job_.meeting_file, .ranks = ranks_, .device = device};
  const std::string file = spec.scratch_folder + "/ranks-job";
  runtime::ThrowIfError(WriteFileAtomically(file, EncodeJob(job_)));
  // What ranks of a killed process said there once must not be taken for these ones' words.
  std::error_code ignored;
  std::filesystem::remove(job_.meeting_file, ignored);
  std::vector<std::vector<std::string>> arguments;
  for (int rank = 1; rank < ranks_; ++rank) {
    arguments.push_back(
        {"rank", "--job", file, "--rank", std::to_string(rank), "--parent", std::to_string(::getpid())});
  }
  others_ = std::make_unique<ranks::RankProcesses>(options.program, arguments);
}

RankTeam::~RankTeam() {
  // While they live the group may wait for them.
  others_.reset();
  if (job_.options.step != nullptr) job_.options.step->Stop();
}

std::string RankTeam::OtherEnded() { return others_ != nullptr ? others_->WhyEnded() : job_.options.step->WhyEnded(); }

ranks::RankGroup& RankTeam::group() {
  if (group_ != nullptr) return *group_;
  while (!ranks::AllReady(place_)) {
    CheckOthers();
    if (observer_.ShouldStop()) throw runtime::Stopped();
    std::this_thread::sleep_for(kLook);
  }
  group_ = std::make_unique<ranks::RankGroup>(place_);
  return *group_;
}

void RankTeam::CheckOthers() {
  if (const std::string why = OtherEnded(); !why.empty()) throw std::runtime_error(why);
}

std::string RankTeam::WhyEnded() {
  const auto until = std::chrono::steady_clock::now() + kLastLook;
  for (;;) {
    std::string why = OtherEnded();
    if (!why.empty() || std::chrono::steady_clock::now() >= until) return why;
    std::this_thread::sleep_for(kLook);
  }
}

}  // namespace loupe::worker::executor

#include "cli/slurm_fleet.h"

#include <algorithm>
#include <tuple>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "fmt/format.h"
#include "nlohmann/json.hpp"

namespace loupe::cli {
namespace {

constexpr size_t kMostNameBytes = 40;
constexpr char kFields[] = "%F|%K|%A|%T|%N|%L|%r";
constexpr size_t kFieldCount = 7;

bool IsDigits(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

// As one word of a shell's command line.
std::string Quoted(const std::string& text) { return "'" + absl::StrReplaceAll(text, {{"'", R"('\'')"}}) + "'"; }

std::string Directive(const std::string& option, const std::string& value) {
  return value.empty() ? "" : fmt::format("#SBATCH --{}={}\n", option, value);
}

std::string CountDirective(const std::string& option, int count) {
  return count == 0 ? "" : Directive(option, fmt::format("{}", count));
}

int64_t Number(const std::string& text) {
  int64_t number = 0;
  return absl::SimpleAtoi(text, &number) ? number : 0;
}

// With several ranks each takes the GPU of its place on its node.
std::string Device(const SlurmFleetOptions& options) {
  if (options.gpus_per_worker == 0) return "cpu";
  return options.ranks() > 1 ? "cuda" : "auto";
}

// Before the worker's program.
std::string Launcher(const SlurmFleetOptions& options) {
  if (options.ranks() == 1) return "";
  return fmt::format(
      "srun --nodes={} --ntasks={} --ntasks-per-node={} --distribution=block{} --mpi=none --kill-on-bad-exit=1 \\\n  ",
      options.nodes_per_worker, options.ranks(), options.ranks() / options.nodes_per_worker,
      // srun does not take it from sbatch.
      options.cpus_per_worker > 0 ? fmt::format(" --cpus-per-task={}", options.cpus_per_worker) : "");
}

// The file by which a step's tasks find each other: in a folder that all nodes see, since Slurm writes the logs there.
std::string StepLines(const SlurmFleetOptions& options) {
  if (options.ranks() == 1) return "";
  return fmt::format("step={}/step-$SLURM_JOB_ID-${{SLURM_RESTART_COUNT:-0}}\nrm -f \"$step\"\n",
                     Quoted(options.log_folder));
}

// The worker's end is a length of time: the clock of the node may differ from the controller's. Slurm says start and
// end from 22.11 on; before, squeue is asked once, for the task by its place: the id of an array's last task is the
// whole array's. A requeued job keeps its id, and is another worker.
constexpr char kBody[] = R"(umask 077
{setup}if [ -n "${{SLURM_JOB_START_TIME:-}}" ] && [ -n "${{SLURM_JOB_END_TIME:-}}" ]; then
  left=$((SLURM_JOB_END_TIME - SLURM_JOB_START_TIME))s
else
  left=$(squeue -h -j "${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID" -o %L)
fi
cluster=$(printf %s "${{SLURM_CLUSTER_NAME:-cluster}}" | tr 'A-Z_' 'a-z-')
scratch=$(mktemp -d "${{SLURM_TMPDIR:-${{TMPDIR:-/tmp}}}}/loupe-XXXXXXXX") || exit 1
{step}exec {launcher}{program} run --credentials {credentials} \
  --id "slurm-$cluster-$SLURM_JOB_ID-${{SLURM_RESTART_COUNT:-0}}" \
  --scratch "$scratch"{data} --device {device} --threads "${{SLURM_CPUS_PER_TASK:-{threads}}}" \
  {step_file}--slots {slots} --passes {passes} --until "$left" --until-idle {idle} --grace {grace}
)";

}  // namespace

absl::Status CheckSlurmOptions(const SlurmFleetOptions& options) {
  const bool good_name =
      !options.fleet.empty() && options.fleet.size() <= kMostNameBytes &&
      std::all_of(options.fleet.begin(), options.fleet.end(),
                  [](char c) {
                    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '-' || c == '_';
                  }) &&
      absl::ascii_isalnum(static_cast<unsigned char>(options.fleet[0]));
  if (!good_name) {
    return absl::InvalidArgumentError(fmt::format(
        "'{}' is no name of a fleet: expected at most {} letters, digits, dots, dashes and underscores, and "
        "one of the first two in front",
        options.fleet, kMostNameBytes));
  }
  std::vector<std::string> lines = {options.partition,      options.time,        options.memory,
                                    options.worker_program, options.credentials, options.log_folder,
                                    options.worker_data,    options.until_idle};
  lines.insert(lines.end(), options.sbatch.begin(), options.sbatch.end());
  for (const std::string& line : lines) {
    if (line.find_first_of("\n\r") != std::string::npos || line.find('\0') != std::string::npos)
      return absl::InvalidArgumentError(fmt::format("'{}' has a line break: each option of sbatch is one line", line));
  }
  for (const std::string* word : {&options.partition, &options.time, &options.memory}) {
    if (word->find_first_of(" \t'\"") != std::string::npos)
      return absl::InvalidArgumentError(fmt::format("'{}' is not one word", *word));
  }
  if (options.gpus_per_worker > 0 && options.ranks_per_worker > 0 &&
      options.ranks_per_worker != options.gpus_per_worker) {
    return absl::InvalidArgumentError(
        fmt::format("{} ranks and {} GPUs per worker: each rank has a GPU of its own; leave --ranks-per-worker out",
                    options.ranks_per_worker, options.gpus_per_worker));
  }
  if (options.ranks() % options.nodes_per_worker != 0) {
    return absl::InvalidArgumentError(
        fmt::format("{} ranks cannot be spread evenly over {} nodes", options.ranks(), options.nodes_per_worker));
  }
  return absl::OkStatus();
}

std::string SlurmJobName(const std::string& fleet) { return "loupe-" + fleet; }

std::string SlurmArray(int workers, int limit) {
  return fmt::format("0-{}{}", workers - 1, limit > 0 ? fmt::format("%{}", limit) : "");
}

std::string SlurmScript(const SlurmFleetOptions& options) {
  std::string script = fmt::format(
      "#!/bin/sh\n# The fleet '{}': each task of this array job is one worker. Written by 'loupe fleet slurm up'.\n",
      options.fleet);
  script += Directive("job-name", SlurmJobName(options.fleet));
  script += Directive("array", SlurmArray(options.workers, options.array_limit));
  script += Directive("nodes", fmt::format("{}", options.nodes_per_worker));
  script += Directive("ntasks", fmt::format("{}", options.ranks()));
  if (options.ranks() > 1) {
    script += CountDirective("ntasks-per-node", options.ranks() / options.nodes_per_worker);
  }
  script += Directive("partition", options.partition);
  script += Directive("time", options.time);
  if (options.gpus_per_worker > 0)
    script += Directive("gres", fmt::format("gpu:{}", options.gpus_per_worker / options.nodes_per_worker));
  script += CountDirective("cpus-per-task", options.cpus_per_worker);
  script += Directive("mem", options.memory);
  script += Directive("output", "\"" + options.log_folder + "/%A_%a.log\"");
  // A requeued task goes on in its log.
  script += Directive("open-mode", "append");
  script += "#SBATCH --requeue\n";
  // For a limit that the worker does not know of; Slurm may be a minute early.
  script += Directive("signal", fmt::format("B:USR2@{}", options.grace_seconds));
  // Last, so that they win.
  for (const std::string& line : options.sbatch) script += "#SBATCH " + line + "\n";
  std::string setup;
  for (const std::string& line : options.setup) setup += line + "\n";
  script += fmt::format(kBody, fmt::arg("setup", setup), fmt::arg("program", Quoted(options.worker_program)),
                        fmt::arg("credentials", Quoted(options.credentials)),
                        fmt::arg("data", options.worker_data.empty() ? "" : " --data " + Quoted(options.worker_data)),
                        fmt::arg("device", Device(options)), fmt::arg("launcher", Launcher(options)),
                        fmt::arg("step", StepLines(options)),
                        fmt::arg("step_file", options.ranks() > 1 ? "--step-file \"$step\" " : ""),
                        // Slurm's own choice is a core for each task.
                        fmt::arg("threads", options.ranks() > 1 ? "1" : "${SLURM_CPUS_ON_NODE:-0}"),
                        fmt::arg("slots", options.packs.slots), fmt::arg("passes", options.packs.passes),
                        fmt::arg("idle", Quoted(options.until_idle)), fmt::arg("grace", options.grace_seconds));
  return script;
}

std::vector<std::string> SqueueWords(const std::string& fleet) {
  return {"squeue", "--noheader", "--array", "--name=" + SlurmJobName(fleet), "--format=" + std::string(kFields)};
}

absl::StatusOr<std::vector<SlurmTask>> ParseSqueue(std::string_view text, const std::set<std::string>& jobs) {
  std::vector<SlurmTask> tasks;
  for (const absl::string_view line : absl::StrSplit(absl::string_view(text.data(), text.size()), '\n')) {
    if (absl::StripAsciiWhitespace(line).empty()) continue;
    std::vector<std::string> fields = absl::StrSplit(line, '|');
    // The reason may have bars of its own.
    if (fields.size() < kFieldCount)
      return absl::InvalidArgumentError(fmt::format("squeue said something unexpected: '{}'", std::string(line)));
    for (std::string& field : fields) absl::StripAsciiWhitespace(&field);
    if (!jobs.contains(fields[0])) continue;
    tasks.push_back({fields[0], fields[1], fields[2], fields[3], fields[4], fields[5], fields[6]});
  }
  std::sort(tasks.begin(), tasks.end(), [](const SlurmTask& a, const SlurmTask& b) {
    return std::tuple(Number(a.job), Number(a.index)) < std::tuple(Number(b.job), Number(b.index));
  });
  return tasks;
}

absl::StatusOr<std::string> ParseSbatch(std::string_view text) {
  const std::string line(absl::StripAsciiWhitespace(absl::string_view(text.data(), text.size())));
  std::string id = line.substr(0, line.find(';'));
  // Plugins of a site may talk before it.
  if (const size_t last = id.rfind('\n'); last != std::string::npos) id = id.substr(last + 1);
  if (!IsDigits(id)) return absl::InvalidArgumentError(fmt::format("sbatch said no job's number: '{}'", line));
  return id;
}

std::optional<std::string> JobOfWorker(std::string_view worker) {
  const std::vector<std::string> parts = absl::StrSplit(std::string(worker), '-');
  if (parts.size() < 4 || parts[0] != "slurm" || !IsDigits(parts.back()) || !IsDigits(parts[parts.size() - 2]))
    return std::nullopt;
  return parts[parts.size() - 2];
}

std::vector<SlurmTask> TasksToCancel(std::vector<SlurmTask> tasks, const std::set<std::string>& idle, size_t surplus) {
  const auto cost = [&](const SlurmTask& task) { return task.pending() ? 0 : idle.contains(task.id) ? 1 : 2; };
  std::stable_sort(tasks.begin(), tasks.end(), [&](const SlurmTask& a, const SlurmTask& b) {
    return std::tuple(cost(a), -Number(a.job), -Number(a.index)) <
           std::tuple(cost(b), -Number(b.job), -Number(b.index));
  });
  tasks.resize(std::min(surplus, tasks.size()));
  return tasks;
}

std::string ToJson(const SlurmFleet& fleet) {
  nlohmann::ordered_json json;
  json["fleet"] = fleet.fleet;
  json["engine"] = "slurm";
  json["jobs"] = fleet.jobs;
  json["script"] = fleet.script;
  json["array_limit"] = fleet.array_limit;
  return json.dump(2) + "\n";
}

absl::StatusOr<SlurmFleet> ParseSlurmFleet(std::string_view text, const std::string& path) {
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  const auto unexpected = [&](const char* what) {
    return absl::InvalidArgumentError(fmt::format(
        "'{}' {}: it is written by 'loupe fleet slurm up'; where its jobs are gone, delete it", path, what));
  };
  if (!json.is_object()) return unexpected("is not a fleet's file");
  if (!json.contains("fleet") || !json["fleet"].is_string() || !json.contains("jobs") || !json["jobs"].is_array() ||
      !json.contains("script") || !json["script"].is_string())
    return unexpected("lacks fleet, jobs or script");
  SlurmFleet fleet{.fleet = json["fleet"].get<std::string>(), .script = json["script"].get<std::string>()};
  for (const auto& job : json["jobs"]) {
    if (!job.is_string() || !IsDigits(job.get<std::string>())) return unexpected("has a job that is no number");
    fleet.jobs.push_back(job.get<std::string>());
  }
  if (json.contains("array_limit") && json["array_limit"].is_number_integer())
    fleet.array_limit = json["array_limit"].get<int>();
  return fleet;
}

}  // namespace loupe::cli

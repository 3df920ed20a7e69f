// Commands on a data folder: backup, restore, doctor. They work on its files, with or without a coordinator running on
// it.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>

#include "analysis/report/text_table.h"
#include "cli/commands.h"
#include "cli/connect.h"
#include "cli/exit_code.h"
#include "cli/failure.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/size_text.h"
#include "cli/views.h"
#include "common/clock.h"
#include "common/status_macros.h"
#include "coordinator/store/upkeep/copies.h"
#include "coordinator/store/upkeep/doctor.h"
#include "fmt/format.h"
#include "nlohmann/json.hpp"

namespace loupe::cli {
namespace {

using coordinator::store::DataCounts;
using coordinator::store::WorkProgress;
using coordinator::store::upkeep::Finding;
using coordinator::store::upkeep::HealthReport;

struct DataFlags {
  std::string data = kDefaultDataFolder;
  std::string copy;  // --to or --from
  bool remove_orphans = false;
  std::string format;
};

// Ctrl-C ends the work between two blocks; what it has begun is then removed.
//
// On a terminal its state is one line of standard error, drawn over; elsewhere a line now and then.
class Work {
 public:
  Work() : terminal_(isatty(STDERR_FILENO) == 1), shown_at_(SystemClock().MonotonicNow()) {}
  ~Work() { Erase(); }

  coordinator::store::ProgressFn progress() {
    return [this](const WorkProgress& state) {
      Show(state);
      return !interrupt_.interrupted();
    };
  }

 private:
  void Show(const WorkProgress& state) {
    const absl::Duration now = SystemClock().MonotonicNow();
    if (now - shown_at_ < (terminal_ ? absl::Milliseconds(200) : absl::Seconds(10))) return;
    shown_at_ = now;
    std::string text(state.step);
    if (state.total_bytes > 0) {
      const int64_t done = std::min(state.done_bytes, state.total_bytes);
      text +=
          fmt::format(": {} of {} ({} %)", SizeText(done), SizeText(state.total_bytes), 100 * done / state.total_bytes);
    }
    Erase();
    fmt::print(stderr, "{}{}", text, terminal_ ? "" : "\n");
    drawn_ = terminal_;
    std::fflush(stderr);
  }

  void Erase() {
    // Back to the line's start, and clear it (ECMA-48 EL).
    if (drawn_) fmt::print(stderr, "\r\x1b[K");
    drawn_ = false;
  }

  const bool terminal_;
  bool drawn_ = false;
  absl::Duration shown_at_;
  InterruptWatch interrupt_{[](int) {}};
};

std::string CountsText(const DataCounts& counts) {
  return fmt::format("{} sweeps, {} trials, {} results, {} artifacts ({})", counts.sweeps, counts.trials,
                     counts.results, counts.artifacts, SizeText(counts.artifact_bytes));
}

void AddCounts(const DataCounts& counts, nlohmann::ordered_json& json) {
  json["sweeps"] = counts.sweeps;
  json["trials"] = counts.trials;
  json["results"] = counts.results;
  json["artifacts"] = counts.artifacts;
  json["artifact_bytes"] = counts.artifact_bytes;
}

// What backup and restore say at their end: which folder was made, and what is in it.
absl::Status WriteMade(const DataFlags& flags, const char* key, const std::string& folder, const DataCounts& counts,
                       const std::string& note) {
  if (flags.format == "text") return WriteOutput(fmt::format("'{}': {}{}\n", folder, CountsText(counts), note), "");
  nlohmann::ordered_json json;
  json[key] = folder;
  AddCounts(counts, json);
  return WriteOutput(JsonText(json), "");
}

absl::Status Backup(const DataFlags& flags) {
  Work work;
  LOUPE_ASSIGN_OR_RETURN(const DataCounts counts,
                         coordinator::store::upkeep::BackupData(flags.data, flags.copy, "", work.progress()));
  return WriteMade(flags, "backup", flags.copy, counts, "; copied and checked");
}

absl::Status Restore(const DataFlags& flags) {
  Work work;
  LOUPE_ASSIGN_OR_RETURN(const DataCounts counts,
                         coordinator::store::upkeep::RestoreData(flags.copy, flags.data, work.progress()));
  return WriteMade(flags, "data", flags.data, counts,
                   fmt::format("; 'loupe up --data {}' goes on with it", flags.data));
}

bool IsDamage(const Finding& finding) { return finding.kind == Finding::Kind::kDamage; }

std::string HealthText(const HealthReport& report) {
  std::string text;
  for (const Finding& finding : report.findings) {
    text += analysis::report::WrapText(fmt::format("{}: {}", finding.subject, finding.problem), 120,
                                       IsDamage(finding) ? "damage: " : "note: ", "  ");
    text += analysis::report::WrapText(finding.advice, 120, "  -> ", "     ");
  }
  const auto damage = std::count_if(report.findings.begin(), report.findings.end(), IsDamage);
  if (damage > 0) return text + fmt::format("{} damage{} found\n", damage, damage == 1 ? "" : "s");
  return text +
         fmt::format("no damage found: {}, schema version {}\n", CountsText(report.counts), report.schema_version);
}

nlohmann::ordered_json HealthJson(const std::string& data, const HealthReport& report, int64_t removed) {
  nlohmann::ordered_json json;
  json["data"] = data;
  json["sound"] = report.Damage().empty();
  json["schema_version"] = report.schema_version;
  AddCounts(report.counts, json);
  json["orphans"] = report.orphans;
  json["orphan_bytes"] = report.orphan_bytes;
  json["removed_orphans"] = removed;
  json["findings"] = nlohmann::ordered_json::array();
  for (const Finding& finding : report.findings) {
    nlohmann::ordered_json entry;
    entry["kind"] = IsDamage(finding) ? "damage" : "note";
    entry["subject"] = finding.subject;
    entry["problem"] = finding.problem;
    entry["advice"] = finding.advice;
    json["findings"].push_back(std::move(entry));
  }
  return json;
}

int Doctor(const DataFlags& flags) {
  absl::StatusOr<HealthReport> report;
  {
    Work work;
    report = coordinator::store::upkeep::Examine(flags.data, work.progress());
  }
  if (!report.ok()) return Fail(report.status());
  const bool sound = report->Damage().empty();
  absl::StatusOr<int64_t> removed = 0;
  if (flags.remove_orphans && sound) removed = coordinator::store::upkeep::RemoveOrphans(flags.data);
  std::string text =
      flags.format == "json" ? JsonText(HealthJson(flags.data, *report, removed.value_or(0))) : HealthText(*report);
  if (flags.format == "text" && flags.remove_orphans && removed.ok()) {
    text += sound ? fmt::format("{} orphan files removed\n", *removed)
                  : "no orphan file was removed: repair the damage first\n";
  }
  if (const absl::Status written = WriteOutput(text, ""); !written.ok()) return Fail(written);
  if (!removed.ok()) return Fail(removed.status());
  return sound ? kOk : kFailed;
}

}  // namespace

void AddDataCommands(CLI::App& app, int& exit_code) {
  const auto add = [&](const char* name, const char* description) {
    auto flags = std::make_shared<DataFlags>();
    CLI::App* command = app.add_subcommand(name, description);
    command->add_option("--data", flags->data, "The data folder")->capture_default_str();
    AddFormatOption(*command, flags->format, {"text", "json"});
    return std::pair(command, flags);
  };
  const auto [backup, backup_flags] =
      add("backup", "Copy a data folder, while its coordinator runs: database and artifacts, checked");
  backup->add_option("--to", backup_flags->copy, "New folder for the copy")->required();
  backup->callback([flags = backup_flags, &exit_code] { exit_code = Fail(Backup(*flags)); });

  const auto [restore, restore_flags] = add("restore", "Make a new data folder from a backup");
  restore->add_option("--from", restore_flags->copy, "Folder that backup made")->required();
  restore->callback([flags = restore_flags, &exit_code] { exit_code = Fail(Restore(*flags)); });

  const auto [doctor, doctor_flags] =
      add("doctor", "Check a data folder or a backup: the database, its counts, every artifact");
  doctor->add_flag("--remove-orphans", doctor_flags->remove_orphans,
                   "Remove files that no attempt refers to; the coordinator must be stopped");
  doctor->callback([flags = doctor_flags, &exit_code] { exit_code = Doctor(*flags); });
}

}  // namespace loupe::cli

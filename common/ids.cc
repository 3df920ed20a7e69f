#include "common/ids.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe {
namespace {

constexpr std::string_view kSweeps = "sweeps/";
constexpr std::string_view kTrials = "/trials/";
constexpr std::string_view kWorkers = "workers/";

bool IsLower(char c) { return c >= 'a' && c <= 'z'; }
bool IsDigit(char c) { return c >= '0' && c <= '9'; }

absl::StatusOr<std::string_view> StripCollection(std::string_view name, std::string_view collection) {
  if (!name.starts_with(collection)) {
    return absl::InvalidArgumentError(fmt::format("'{}' is not a resource name of the form '{}…'", name, collection));
  }
  return name.substr(collection.size());
}

}  // namespace

absl::StatusOr<SweepId> SweepId::FromId(std::string_view id) {
  const bool characters =
      std::all_of(id.begin(), id.end(), [](char c) { return IsLower(c) || IsDigit(c) || c == '-'; });
  if (id.size() < 4 || id.size() > 63 || !characters || !IsLower(id.front()) || id.back() == '-') {
    return absl::InvalidArgumentError(fmt::format(
        "'{}' is not a sweep id: expected 4 to 63 lower-case letters, digits and '-', starting with a letter", id));
  }
  return SweepId(std::string(id));
}

absl::StatusOr<SweepId> SweepId::FromName(std::string_view name) {
  LOUPE_ASSIGN_OR_RETURN(const std::string_view id, StripCollection(name, kSweeps));
  return FromId(id);
}

std::string SweepId::name() const { return fmt::format("{}{}", kSweeps, id_); }

absl::StatusOr<TrialId> TrialId::FromName(std::string_view name) {
  const size_t split = name.find(kTrials);
  const std::string digits(split == std::string_view::npos ? "" : name.substr(split + kTrials.size()));
  int64_t index = 0;
  // One name for each trial: no sign, space or leading zero.
  if (!absl::SimpleAtoi(digits, &index) || index < 0 || digits != fmt::format("{}", index)) {
    return absl::InvalidArgumentError(
        fmt::format("'{}' is not a trial name of the form 'sweeps/{{sweep}}/trials/{{index}}'", name));
  }
  LOUPE_ASSIGN_OR_RETURN(SweepId sweep, SweepId::FromName(name.substr(0, split)));
  return TrialId(std::move(sweep), index);
}

std::string TrialId::name() const { return fmt::format("{}{}{}", sweep_.name(), kTrials, index_); }

absl::StatusOr<WorkerId> WorkerId::FromId(std::string_view id) {
  const bool characters =
      std::all_of(id.begin(), id.end(), [](char c) { return IsLower(c) || IsDigit(c) || c == '-' || c == '.'; });
  if (id.empty() || id.size() > 63 || !characters || !(IsLower(id.front()) || IsDigit(id.front()))) {
    return absl::InvalidArgumentError(fmt::format(
        "'{}' is not a worker id: expected 1 to 63 lower-case letters, digits, '.' and '-', starting with a letter or digit",
        id));
  }
  return WorkerId(std::string(id));
}

absl::StatusOr<WorkerId> WorkerId::FromName(std::string_view name) {
  LOUPE_ASSIGN_OR_RETURN(const std::string_view id, StripCollection(name, kWorkers));
  return FromId(id);
}

std::string WorkerId::name() const { return fmt::format("{}{}", kWorkers, id_); }

}  // namespace loupe

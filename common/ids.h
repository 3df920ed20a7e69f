// The names of things, parsed and printed here and nowhere else (Google AIP-122 resource names).
//
//   sweeps/{sweep}                  SweepId: 4–63 of [a-z0-9-], starts with a letter, does not end with '-'
//   sweeps/{sweep}/trials/{trial}   TrialId: the sweep and the trial's index in the sweep's plan, from 0
//   workers/{worker}                WorkerId: 1–63 of [a-z0-9.-], starts with a letter or digit
#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace loupe {

class SweepId {
 public:
  // From the bare id ("quickstart"). INVALID_ARGUMENT says which rule it breaks.
  static absl::StatusOr<SweepId> FromId(std::string_view id);
  // From the resource name ("sweeps/quickstart").
  static absl::StatusOr<SweepId> FromName(std::string_view name);

  const std::string& id() const { return id_; }
  std::string name() const;

  auto operator<=>(const SweepId&) const = default;

 private:
  explicit SweepId(std::string id) : id_(std::move(id)) {}
  std::string id_;
};

class TrialId {
 public:
  TrialId(SweepId sweep, int64_t index) : sweep_(std::move(sweep)), index_(index) {}
  // From "sweeps/{sweep}/trials/{index}".
  static absl::StatusOr<TrialId> FromName(std::string_view name);

  const SweepId& sweep() const { return sweep_; }
  int64_t index() const { return index_; }
  std::string name() const;

  auto operator<=>(const TrialId&) const = default;

 private:
  SweepId sweep_;
  int64_t index_;
};

class WorkerId {
 public:
  static absl::StatusOr<WorkerId> FromId(std::string_view id);
  static absl::StatusOr<WorkerId> FromName(std::string_view name);

  const std::string& id() const { return id_; }
  std::string name() const;

  auto operator<=>(const WorkerId&) const = default;

 private:
  explicit WorkerId(std::string id) : id_(std::move(id)) {}
  std::string id_;
};

}  // namespace loupe

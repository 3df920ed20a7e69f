// Reading a model folder's config.json: each key asked for by type, everything not understood refused by name.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace loupe::worker::io {

// The file as JSON; the bare words NaN, Infinity and -Infinity, which Python writes, become null. NOT_FOUND or
// PERMISSION_DENIED from the file; INVALID_ARGUMENT with path, and line and column where it is not JSON; also when a
// number is too large for a double, or lists and objects lie in each other more than 64 deep.
absl::StatusOr<nlohmann::json> ReadJsonFile(const std::string& path);

// One JSON object of a config file. The getters return the value, or the default where the key is absent or null, and
// remember the first error; ask status() or Finish() once at the end. A getter without a default makes the key
// required. Errors read "{path}: key 'act_fn' is \"relu\", expected \"silu\"". Not thread-safe.
class JsonConfig {
 public:
  // INVALID_ARGUMENT if `path` is not a JSON object.
  static absl::StatusOr<JsonConfig> Read(const std::string& path);
  JsonConfig(std::string path, nlohmann::json object);

  const std::string& path() const { return path_; }
  const nlohmann::json& object() const { return object_; }
  bool Has(std::string_view key) const;  // present and not null

  int64_t Int(std::string_view key, std::optional<int64_t> or_else = std::nullopt);
  double Number(std::string_view key, std::optional<double> or_else = std::nullopt);
  bool Bool(std::string_view key, bool or_else);
  std::string String(std::string_view key, std::optional<std::string> or_else = std::nullopt);
  std::vector<int64_t> Ints(std::string_view key);
  std::vector<double> Numbers(std::string_view key);
  std::vector<std::string> Strings(std::string_view key);
  // A whole number, meaning `size` copies of it, or a list of exactly `size`.
  std::vector<int64_t> IntOrList(std::string_view key, size_t size, std::optional<int64_t> or_else = std::nullopt);
  // A nested object, for a reader of its own (whose errors are its own). An absent one is an error.
  JsonConfig Object(std::string_view key);

  // The key must be absent, null or equal to one of `accepted`: a setting that this program knows in one form only.
  void MustBe(std::string_view key, std::initializer_list<nlohmann::json> accepted);
  // The key says nothing about the arithmetic.
  void Ignore(std::initializer_list<std::string_view> keys);
  // Records an error about `key` found by the caller.
  void Refuse(std::string_view key, std::string_view expected);

  const absl::Status& status() const { return status_; }
  // status(), or an error naming the first key that nobody asked for, unless it is null or false, or starts with "_":
  // an unknown switch that is off changes nothing.
  absl::Status FinishStrictly();

 private:
  const nlohmann::json* Find(std::string_view key);

  std::string path_;
  nlohmann::json object_;
  std::set<std::string, std::less<>> asked_;
  absl::Status status_;
};

}  // namespace loupe::worker::io

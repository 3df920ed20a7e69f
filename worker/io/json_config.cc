#include "worker/io/json_config.h"

#include <algorithm>
#include <utility>

#include "common/atomic_file.h"
#include "common/lfs_pointer.h"
#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::worker::io {
namespace {

using nlohmann::json;

// No configuration is this deep, and the JSON library copies, compares and writes values by calling itself once per
// level.
constexpr int kMostLevels = 64;

// Python's json writes these bare words for floats that JSON cannot hold; outside of strings they become null, padded
// so that an error's column stays right.
std::string WithoutPythonFloats(std::string text) {
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (in_string) {
      if (text[i] == '\\') {
        ++i;
      } else if (text[i] == '"') {
        in_string = false;
      }
      continue;
    }
    if (text[i] == '"') in_string = true;
    for (const std::string_view word : {"-Infinity", "Infinity", "NaN"}) {
      if (text.compare(i, word.size(), word) == 0) {
        const size_t pad = word.size() > 4 ? word.size() - 4 : 0;
        text.replace(i, word.size(), "null" + std::string(pad, ' '));
        break;
      }
    }
  }
  return text;
}

}  // namespace

absl::StatusOr<json> ReadJsonFile(const std::string& path) {
  LOUPE_ASSIGN_OR_RETURN(std::string text, ReadFile(path));
  LOUPE_RETURN_IF_ERROR(CheckIsNoLfsPointer(path, text));
  text = WithoutPythonFloats(std::move(text));
  // The JSON library takes a zero byte for the end.
  if (const size_t at = text.find('\0'); at != std::string::npos) {
    return absl::InvalidArgumentError(fmt::format("{}: not JSON: a zero byte at {}", path, at));
  }
  bool is_too_deep = false;
  const auto take_shallow = [&](int depth, json::parse_event_t, json&) {
    is_too_deep = is_too_deep || depth > kMostLevels;
    return !is_too_deep;
  };
  try {
    json parsed = json::parse(text, take_shallow);
    if (!is_too_deep) return parsed;
    return absl::InvalidArgumentError(
        fmt::format("{}: more than {} levels of lists and objects in each other", path, kMostLevels));
  } catch (const json::out_of_range& error) {
    return absl::InvalidArgumentError(fmt::format("{}: a number too large for a double: {}", path, error.what()));
  } catch (const json::parse_error& error) {
    const size_t at = std::min(text.size(), error.byte > 0 ? error.byte - 1 : 0);
    const auto line = 1 + std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(at), '\n');
    const size_t line_start = at == 0 ? std::string::npos : text.rfind('\n', at - 1);
    const size_t column = line_start == std::string::npos ? at + 1 : at - line_start;
    return absl::InvalidArgumentError(fmt::format("{}: not JSON: line {}, column {}", path, line, column));
  }
}

absl::StatusOr<JsonConfig> JsonConfig::Read(const std::string& path) {
  LOUPE_ASSIGN_OR_RETURN(json parsed, ReadJsonFile(path));
  if (!parsed.is_object()) return absl::InvalidArgumentError(fmt::format("{}: expected a JSON object", path));
  return JsonConfig(path, std::move(parsed));
}

JsonConfig::JsonConfig(std::string path, json object) : path_(std::move(path)), object_(std::move(object)) {}

bool JsonConfig::Has(std::string_view key) const {
  const auto found = object_.find(std::string(key));
  return found != object_.end() && !found->is_null();
}

const json* JsonConfig::Find(std::string_view key) {
  asked_.emplace(key);
  const auto found = object_.find(std::string(key));
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

void JsonConfig::Refuse(std::string_view key, std::string_view expected) {
  if (!status_.ok()) return;
  const auto found = object_.find(std::string(key));
  status_ = absl::InvalidArgumentError(
      found == object_.end() ? fmt::format("{}: key '{}' is missing, expected {}", path_, key, expected)
                             : fmt::format("{}: key '{}' is {}, expected {}", path_, key, found->dump(), expected));
}

int64_t JsonConfig::Int(std::string_view key, std::optional<int64_t> or_else) {
  const json* value = Find(key);
  if (value == nullptr && or_else) return *or_else;
  if (value == nullptr || !value->is_number_integer()) {
    Refuse(key, "a whole number");
    return 0;
  }
  return value->get<int64_t>();
}

double JsonConfig::Number(std::string_view key, std::optional<double> or_else) {
  const json* value = Find(key);
  if (value == nullptr && or_else) return *or_else;
  if (value == nullptr || !value->is_number()) {
    Refuse(key, "a number");
    return 0;
  }
  return value->get<double>();
}

bool JsonConfig::Bool(std::string_view key, bool or_else) {
  const json* value = Find(key);
  if (value == nullptr) return or_else;
  if (!value->is_boolean()) {
    Refuse(key, "true or false");
    return or_else;
  }
  return value->get<bool>();
}

std::string JsonConfig::String(std::string_view key, std::optional<std::string> or_else) {
  const json* value = Find(key);
  if (value == nullptr && or_else) return *or_else;
  if (value == nullptr || !value->is_string()) {
    Refuse(key, "a string");
    return "";
  }
  return value->get<std::string>();
}

std::vector<int64_t> JsonConfig::Ints(std::string_view key) {
  const json* value = Find(key);
  const auto is_int = [](const json& item) { return item.is_number_integer(); };
  if (value == nullptr || !value->is_array() || !std::all_of(value->begin(), value->end(), is_int)) {
    Refuse(key, "a list of whole numbers");
    return {};
  }
  return value->get<std::vector<int64_t>>();
}

std::vector<double> JsonConfig::Numbers(std::string_view key) {
  const json* value = Find(key);
  const auto is_number = [](const json& item) { return item.is_number(); };
  if (value == nullptr || !value->is_array() || !std::all_of(value->begin(), value->end(), is_number)) {
    Refuse(key, "a list of numbers");
    return {};
  }
  return value->get<std::vector<double>>();
}

std::vector<std::string> JsonConfig::Strings(std::string_view key) {
  const json* value = Find(key);
  const auto is_string = [](const json& item) { return item.is_string(); };
  if (value == nullptr || !value->is_array() || !std::all_of(value->begin(), value->end(), is_string)) {
    Refuse(key, "a list of strings");
    return {};
  }
  return value->get<std::vector<std::string>>();
}

std::vector<int64_t> JsonConfig::IntOrList(std::string_view key, size_t size, std::optional<int64_t> or_else) {
  const json* value = Find(key);
  if (value == nullptr && or_else) return std::vector<int64_t>(size, *or_else);
  if (value != nullptr && value->is_number_integer()) return std::vector<int64_t>(size, value->get<int64_t>());
  if (value == nullptr || !value->is_array() || value->size() != size) {
    Refuse(key, fmt::format("a whole number or a list of {}", size));
    return std::vector<int64_t>(size, 1);
  }
  std::vector<int64_t> list = Ints(key);
  list.resize(size, 1);
  return list;
}

JsonConfig JsonConfig::Object(std::string_view key) {
  const json* value = Find(key);
  if (value == nullptr || !value->is_object()) {
    Refuse(key, "an object");
    return JsonConfig(path_, json::object());
  }
  return JsonConfig(path_, *value);
}

void JsonConfig::MustBe(std::string_view key, std::initializer_list<json> accepted) {
  const json* value = Find(key);
  if (value == nullptr || std::find(accepted.begin(), accepted.end(), *value) != accepted.end()) return;
  std::string expected;
  for (const json& item : accepted) expected += (expected.empty() ? "" : " or ") + item.dump();
  Refuse(key, expected);
}

void JsonConfig::Ignore(std::initializer_list<std::string_view> keys) { asked_.insert(keys.begin(), keys.end()); }

absl::Status JsonConfig::FinishStrictly() {
  if (!status_.ok()) return status_;
  for (const auto& [key, value] : object_.items()) {
    if (key.starts_with("_") || value.is_null() || value == false || asked_.contains(key)) continue;
    return absl::InvalidArgumentError(
        fmt::format("{}: key '{}' is {}, which this program does not know", path_, key, value.dump()));
  }
  return absl::OkStatus();
}

}  // namespace loupe::worker::io

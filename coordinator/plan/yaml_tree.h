// A YAML document as a bounded tree that knows where each part stands in the file.
//
// Narrower than YAML on purpose: one document, no anchors, aliases or merge keys (they let a small file stand for a
// huge one), no tags, no repeated keys, keys are plain scalars, at most kMaxDepth levels and kMaxNodes nodes.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace loupe::coordinator::plan {

// Both count from 1; 0:0 means "nowhere in particular".
struct FilePlace {
  int line = 0;
  int column = 0;
  auto operator<=>(const FilePlace&) const = default;
};

struct YamlEntry;

struct YamlNode {
  enum class Kind { kNull, kScalar, kList, kMap };
  Kind kind = Kind::kNull;
  FilePlace place;
  std::string text;                // of a scalar
  std::vector<YamlNode> items;     // of a list
  std::vector<YamlEntry> entries;  // of a map, as written

  // "a list", "a mapping", "nothing", "'text'": for messages.
  std::string Describe() const;
};

struct YamlEntry {
  std::string key;
  FilePlace key_place;
  YamlNode value;
};

// What is wrong with a file, and where.
struct FileProblem {
  FilePlace place;
  std::string message;
};

inline constexpr size_t kMaxYamlBytes = 1 << 20;
inline constexpr int kMaxYamlDepth = 12;
inline constexpr size_t kMaxYamlNodes = 200'000;

// Parses UTF-8 `text`. On an error `problem` says what and where and the answer is INVALID_ARGUMENT. An empty document
// is kNull.
absl::StatusOr<YamlNode> ParseYaml(std::string_view text, FileProblem& problem);

}  // namespace loupe::coordinator::plan

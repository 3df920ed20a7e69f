// Walks over a parsed sweep file and makes a SweepFile of it, with every problem of its shape. ParseSweepFile's inside.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "coordinator/plan/sweep_file.h"
#include "coordinator/plan/yaml_tree.h"

namespace loupe::coordinator::plan {

class SweepFileReader {
 public:
  explicit SweepFileReader(SweepFile& file) : file_(file) {}

  // Once. What is wrong with the file's shape, as it was met.
  std::vector<FileProblem> Read(const YamlNode& root) &&;

 private:
  using Kind = YamlNode::Kind;

  // A part of the spec that has factors: the spec itself, or an entry of its methods.
  struct Part {
    std::string field;  // "spec", "spec.methods[1]"
    std::string name;   // as messages call it: "factors", "methods"
    std::vector<SweepFactor>& factors;
    std::vector<PositionPairSpec>& positions;
    absl::StatusOr<std::string> (*resolve)(std::string_view key);
  };
  Part WholeSpec();

  void Refuse(FilePlace place, std::string message) { problems_.push_back({place, std::move(message)}); }

  // sweep_file_reader.cc: the file's own keys, and settings.
  // Reads the keys that are no settings. False when `entry` is none of them.
  bool ReadStructure(const YamlEntry& entry);
  void ReadName(const YamlNode& value);
  void ReadText(const YamlEntry& entry, const std::string& field, std::string& text);
  template <typename Number>
  void ReadNumber(const YamlEntry& entry, std::string_view key, const std::string& field, Number& number);
  void ReadSettings(const YamlEntry& entry, const std::vector<std::string>& sections);
  void RefuseTopKey(const YamlEntry& entry, const std::vector<std::string>& sections);
  void ReadSetting(const std::string& key, const YamlNode& value);
  void ReadRetry(const YamlEntry& entry);
  void ReadMode(const YamlEntry& entry);
  void ReadSearch(const YamlEntry& entry);
  // `search` belongs to mode search, and that needs it.
  void CheckMode();

  // sweep_file_factors.cc: what is varied.
  void ReadFactors(const YamlEntry& entry);
  void ReadFactor(const YamlEntry& entry, const Part& part);
  void ReadLevelSettings(const YamlEntry& entry, const std::string& field, const Part& part, SweepFactor& factor);
  void ReadPositions(const YamlEntry& entry, const Part& part);
  void ReadPair(const YamlNode& item, const Part& part);
  void CheckPositionsStandAlone();
  void ReadMethods(const YamlEntry& entry);
  void ReadMethod(const YamlNode& item);
  void ReadMethodKey(const YamlEntry& entry, const Part& part, MethodSpec& method);
  void ReadPatterns(const YamlEntry& entry, const std::string& list, std::vector<CellPattern>& patterns);

  SweepFile& file_;
  std::vector<FileProblem> problems_;
  std::map<std::string, FilePlace> factor_places_;  // of the file's factors, by full key
  FilePlace positions_place_;
  FilePlace mode_place_;
  FilePlace search_place_;
  bool searches_ = false;
  bool name_refused_ = false;
};

// "; did you mean 'x'?", or which there are.
std::string Suggestion(std::string_view key, const std::vector<std::string>& candidates);

}  // namespace loupe::coordinator::plan

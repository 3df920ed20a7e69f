// Holds docs/sweep-file.md to the program's own tables: nothing undocumented, nothing documented that does not exist.
#include "cli/sweep_file_reference.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <sstream>

#include "common/atomic_file.h"
#include "common/settings/settings.h"
#include "coordinator/plan/sweep_file.h"

namespace loupe::cli {
namespace {

constexpr char kDocument[] = "docs/sweep-file.md";
constexpr char kHeading[] = "## Every key\n\n";

// What stands under "Every key".
std::string DocumentedTables() {
  const absl::StatusOr<std::string> text = ReadFile(kDocument);
  EXPECT_TRUE(text.ok()) << text.status();
  const size_t start = text.ok() ? text->find(kHeading) : std::string::npos;
  EXPECT_NE(start, std::string::npos) << kDocument << " has no heading 'Every key'";
  return start == std::string::npos ? "" : text->substr(start + sizeof(kHeading) - 1);
}

// First column of every table row: "| `task.kind` | …".
std::set<std::string> KeysIn(const std::string& tables) {
  std::set<std::string> keys;
  std::istringstream lines(tables);
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("| `")) continue;
    keys.insert(line.substr(3, line.find('`', 3) - 3));
  }
  return keys;
}

TEST(SweepFileReferenceTest, EveryKeyIsDocumentedAndEveryDocumentedKeyExists) {
  std::set<std::string> expected;
  for (const settings::SettingRule& rule : settings::SettingRules()) expected.insert(rule.key);
  for (const coordinator::plan::StructureKey& key : coordinator::plan::SweepFileStructure()) expected.insert(key.key);
  EXPECT_THAT(KeysIn(DocumentedTables()), ::testing::ContainerEq(expected));
}

TEST(SweepFileReferenceTest, TypesDefaultsAndMeaningsAreThoseOfTheProgram) {
  // Line by line, so that a failure shows the line.
  std::istringstream documented(DocumentedTables());
  std::istringstream expected(SweepFileReference());
  std::string have, want;
  int line = 0;
  while (std::getline(expected, want)) {
    ++line;
    ASSERT_TRUE(std::getline(documented, have))
        << "missing from line " << line << " on: " << want << "\n'loupe keys' prints the tables as they should stand";
    ASSERT_EQ(have, want) << "line " << line << "; 'loupe keys' prints the tables as they should stand";
  }
  EXPECT_FALSE(std::getline(documented, have)) << "more than the program has: " << have;
}

// A documented structure key that the reader does not know would be refused as unknown.
TEST(SweepFileReferenceTest, EveryStructureKeyIsKnownToTheReader) {
  for (const coordinator::plan::StructureKey& key : coordinator::plan::SweepFileStructure()) {
    const size_t dot = key.key.find('.');
    const std::string line = dot == std::string::npos
                                 ? key.key + ": {}\n"
                                 : key.key.substr(0, dot) + ": {" + key.key.substr(dot + 1) + ": 1}\n";
    const auto file = coordinator::plan::ParseSweepFile(line, "f");
    const std::string message(file.status().message());
    EXPECT_EQ(message.find("is not a key of"), std::string::npos) << message;
  }
}

}  // namespace
}  // namespace loupe::cli

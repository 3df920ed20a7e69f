// In which form a command's data is written.
#include "cli/output.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"

namespace loupe::cli {
namespace {

std::string FormatAfter(std::vector<std::string> arguments) {
  CLI::App app;
  std::string format, output;
  AddFormatAndOutputOptions(app, format, output, {"text", "json", "html"});
  std::reverse(arguments.begin(), arguments.end());  // as CLI::App takes them
  app.parse(arguments);
  return format;
}

TEST(OutputTest, AFilesEndingChoosesTheFormatUnlessOneIsNamed) {
  EXPECT_EQ(FormatAfter({}), "text");
  EXPECT_EQ(FormatAfter({"-o", "out/report.html"}), "html");
  EXPECT_EQ(FormatAfter({"-o", "report.html", "--format", "json"}), "json");
  EXPECT_EQ(FormatAfter({"--format", "text", "-o", "report.html"}), "text");
  for (const char* other : {"report", "report.txt", "a.json/report", ".html"}) {
    EXPECT_EQ(FormatAfter({"-o", other}), "text") << other;
  }
}

}  // namespace
}  // namespace loupe::cli

#include "common/logging.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "common/text.h"
#include "spdlog/spdlog.h"

namespace loupe {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

// Standard error as a program with this logger writes it.
class LoggingTest : public ::testing::Test {
 protected:
  void SetUp() override { ::testing::internal::CaptureStderr(); }
  void TearDown() override {
    ::testing::internal::GetCapturedStderr();
    spdlog::drop_all();
    spdlog::set_default_logger(std::make_shared<spdlog::logger>("none"));
  }
  static std::string Written() {
    std::string written = ::testing::internal::GetCapturedStderr();
    ::testing::internal::CaptureStderr();
    return written;
  }
};

TEST_F(LoggingTest, JsonLineHasEveryField) {
  ASSERT_TRUE(InitLogging("loupe-test", "info", "json").ok());
  SetLogField("worker", "gpu-1");
  {
    const LogFieldScope trial("trial", "sweeps/a/trials/3");
    LogWarning("half a \"quote\" and é");
    std::thread([] { LogInfo("another thread's"); }).join();
  }
  LogInfo("after");
  const std::string text = Written();
  std::vector<json> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(json::parse(line));
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_EQ(lines[0]["message"], "half a \"quote\" and é");
  EXPECT_EQ(lines[0]["level"], "warning");
  EXPECT_EQ(lines[0]["program"], "loupe-test");
  EXPECT_EQ(lines[0]["worker"], "gpu-1");
  EXPECT_EQ(lines[0]["trial"], "sweeps/a/trials/3");
  EXPECT_THAT(lines[0]["time"].get<std::string>(), ::testing::MatchesRegex("20..-..-..T..:..:..[.]...Z"));
  EXPECT_GT(lines[0]["thread"].get<int64_t>(), 0);
  EXPECT_FALSE(lines[1].contains("trial"));
  EXPECT_NE(lines[1]["thread"], lines[0]["thread"]);
  EXPECT_FALSE(lines[2].contains("trial"));
}

TEST_F(LoggingTest, WhateverIsLoggedIsOneValidLine) {
  ASSERT_TRUE(InitLogging("loupe-bytes", "info", "json").ok());
  std::string all;
  for (int byte = 0; byte < 256; ++byte) all += static_cast<char>(byte);
  LogInfo("{}", all);
  LogInfo("a\u202eb\nc");
  const std::string text = Written();
  EXPECT_EQ(FindNotUtf8(text), std::string::npos);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2);
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
  const std::string second = text.substr(text.find('\n') + 1);
  EXPECT_EQ(json::parse(text.substr(0, text.find('\n')))["message"], ToUtf8(all));
  EXPECT_EQ(json::parse(second)["message"], "a\u202eb\nc");
  EXPECT_THAT(second, HasSubstr("\\u202e"));
}

TEST_F(LoggingTest, TextLinesAreAsTheyWere) {
  ASSERT_TRUE(InitLogging("loupe-text", "info").ok());
  const LogFieldScope trial("trial", "sweeps/a/trials/3");
  LogInfo("one\ntwo");
  EXPECT_THAT(Written(), ::testing::MatchesRegex("20..-..-..T..:..:..[.]... info \\[loupe-text\\] one\\\\ntwo\n"));
}

// A width of −1 is found out only as the line is formatted.
TEST_F(LoggingTest, LineThatCannotBeFormattedIsToldAndNotThrown) {
  ASSERT_TRUE(InitLogging("loupe-lost", "info").ok());
  EXPECT_NO_THROW(LogError("{:{}}", 1, -1));
  EXPECT_THAT(Written(), HasSubstr("a log line is lost: negative width"));
}

TEST_F(LoggingTest, LineOfALevelThatIsOffIsNotFormatted) {
  ASSERT_TRUE(InitLogging("loupe-off", "warn").ok());
  LogInfo("{:{}}", 1, -1);
  EXPECT_EQ(Written(), "");
}

TEST_F(LoggingTest, UnknownFormIsRefused) {
  EXPECT_THAT(std::string(InitLogging("loupe-no", "info", "xml").message()), HasSubstr("text or json"));
  EXPECT_THAT(std::string(InitLogging("loupe-no", "loud", "json").message()), HasSubstr("debug"));
}

}  // namespace
}  // namespace loupe

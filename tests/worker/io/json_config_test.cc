#include "worker/io/json_config.h"

#include <filesystem>
#include <fstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace loupe::worker::io {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;

JsonConfig Config(const std::string& text) { return JsonConfig("folder/config.json", json::parse(text)); }

void ExpectRefused(const absl::Status& status, const std::string& key, const std::string& expected) {
  ASSERT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("folder/config.json"), HasSubstr("'" + key + "'"), HasSubstr(expected)));
}

TEST(JsonConfigTest, ValuesAndDefaults) {
  JsonConfig config = Config(R"({"i": 3, "n": 2, "b": true, "s": "x", "list": [1, 2], "null": null})");
  EXPECT_EQ(config.Int("i"), 3);
  EXPECT_EQ(config.Int("null", 7), 7);
  EXPECT_EQ(config.Number("n"), 2.0);
  EXPECT_TRUE(config.Bool("b", false));
  EXPECT_EQ(config.String("s"), "x");
  EXPECT_EQ(config.IntOrList("list", 2), (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(config.IntOrList("i", 2), (std::vector<int64_t>{3, 3}));
  EXPECT_TRUE(config.FinishStrictly().ok()) << config.status();
}

TEST(JsonConfigTest, WrongTypesAndMissingKeysAreNamed) {
  const auto first_error = [](auto ask) {
    JsonConfig config = Config(R"({"s": "x", "f": 1.5, "list": [1, "a"]})");
    ask(config);
    return config.status();
  };
  ExpectRefused(first_error([](JsonConfig& c) { c.Int("s"); }), "s", "a whole number");
  ExpectRefused(first_error([](JsonConfig& c) { c.Int("f"); }), "f", "1.5");
  ExpectRefused(first_error([](JsonConfig& c) { c.Int("absent"); }), "absent", "missing");
  ExpectRefused(first_error([](JsonConfig& c) { c.Ints("list"); }), "list", "a list of whole numbers");
  ExpectRefused(first_error([](JsonConfig& c) { c.IntOrList("list", 3); }), "list", "a list of 3");
  ExpectRefused(first_error([](JsonConfig& c) { c.Object("s"); }), "s", "an object");
  ExpectRefused(first_error([](JsonConfig& c) { c.MustBe("s", {"silu", "gelu"}); }), "s", "\"silu\" or \"gelu\"");
}

TEST(JsonConfigTest, UnknownKeysAreRefusedUnlessTheyAreOff) {
  JsonConfig fine = Config(R"({"_version": "1", "new_switch": false, "new_thing": null, "known": 1})");
  fine.Ignore({"known"});
  EXPECT_TRUE(fine.FinishStrictly().ok());
  ExpectRefused(Config(R"({"new_switch": true})").FinishStrictly(), "new_switch", "does not know");
}

TEST(JsonConfigTest, FilesOfPythonsJsonAreReadAndBrokenOnesLocated) {
  const std::string path = ::testing::TempDir() + "json_config_test.json";
  std::ofstream(path) << R"({"a": -Infinity, "b": NaN, "c": "NaN \" Infinity"})";
  const auto parsed = ReadJsonFile(path);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(*parsed, json::parse(R"({"a": null, "b": null, "c": "NaN \" Infinity"})"));
  std::ofstream(path) << "{\n  \"a\": ,\n}";
  EXPECT_THAT(std::string(ReadJsonFile(path).status().message()),
              AllOf(HasSubstr(path), HasSubstr("line 2, column 8")));
  std::ofstream(path) << std::string("{\"a\": 1}\0}", 10);
  EXPECT_THAT(std::string(ReadJsonFile(path).status().message()),
              AllOf(HasSubstr(path), HasSubstr("a zero byte at 8")));
  std::ofstream(path) << R"({"a": 1e999})";
  EXPECT_THAT(std::string(ReadJsonFile(path).status().message()), AllOf(HasSubstr(path), HasSubstr("1e999")));
  // The JSON library writes a value by calling itself once per level: a message about this one ended the program.
  std::ofstream(path) << "{\"a\": " << std::string(200'000, '[') << std::string(200'000, ']') << "}";
  EXPECT_THAT(std::string(JsonConfig::Read(path).status().message()),
              AllOf(HasSubstr(path), HasSubstr("more than 64 levels")));
  std::ofstream(path) << "[]";
  EXPECT_THAT(std::string(JsonConfig::Read(path).status().message()), HasSubstr("expected a JSON object"));
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace loupe::worker::io

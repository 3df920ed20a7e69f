// A model folder's JSON: an error that names the file, or an object whose every key answers every question with a value
// or one refusal; what is read survives being written.
#include "absl/status/status.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/input_file.h"
#include "worker/io/json_config.h"

namespace loupe::fuzz {
namespace {

void Ask(worker::io::JsonConfig config, std::string_view key, int depth) {
  const bool has = config.Has(key);
  config.Int(key, 1);
  config.Number(key, 1.0);
  config.Bool(key, false);
  config.String(key, "");
  config.Ints(key);
  config.Numbers(key);
  config.Strings(key);
  Require(config.IntOrList(key, 3, 1).size() == 3, "a list has the size that was asked for");
  config.MustBe(key, {nullptr, 1, "silu"});
  Require(!config.status().ok(), "nothing is of every type, and nothing missing is a list");
  Require(absl::IsInvalidArgument(config.status()) &&
              config.status().message().find(config.path().c_str()) != absl::string_view::npos,
          "a refusal names the file");
  if (!has || depth == 3) return;
  const worker::io::JsonConfig inner = config.Object(key);
  for (const auto& [name, value] : inner.object().items()) Ask(inner, name, depth + 1);
}

}  // namespace

std::vector<std::string> Seeds() {
  return {
      R"({"_class_name": "UNet2DConditionModel", "act_fn": "silu", "attention_head_dim": 8, "block_out_channels": [320, 640],
              "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"], "norm_eps": 1e-05, "use_linear_projection": false})",
      R"({"model_type": "clip", "text_config": {"hidden_size": 512, "layer_norm_eps": NaN}, "vision_config": {"a": {"b": {"c": []}}}})",
      "{\"a\": -Infinity, \"b\": \"NaN \\\" Infinity\", \"c\": [1, 2, 3]}",
      R"({"crop_size": {"height": 224}, "image_mean": [0.48, 0.45, 0.40], "model_max_length": 1e30, "x": null})",
      "[[[[[[[[]]]]]]]]",
      "\xEF\xBB\xBF{}"};
}

std::vector<std::string> Dictionary() {
  return {"{",
          "}",
          "[",
          "]",
          ":",
          ",",
          "\"",
          "\\\"",
          "\\u0000",
          "\\ud83d",
          "\\ude00",
          "NaN",
          "Infinity",
          "-Infinity",
          "null",
          "true",
          "false",
          "1e999",
          "-1e999",
          "1e-999",
          "18446744073709551616",
          "9223372036854775808",
          "-9223372036854775809",
          "0.1",
          "-0",
          "{\"a\":",
          "[[[[[[[[[[[[[[[[",
          "\xff"};
}

int DefaultRuns() { return 20000; }

}  // namespace loupe::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace loupe;        // NOLINT: one function
  using namespace loupe::fuzz;  // NOLINT
  const InputFile input({reinterpret_cast<const char*>(data), size});
  const auto parsed = worker::io::ReadJsonFile(input.path());
  if (!parsed.ok()) {
    Require(absl::IsInvalidArgument(parsed.status()) &&
                parsed.status().message().find(input.path().c_str()) != absl::string_view::npos,
            "a refusal names the file");
    return 0;
  }
  const InputFile copy(parsed->dump());
  const auto again = worker::io::ReadJsonFile(copy.path());
  Require(again.ok() && *again == *parsed, "JSON survives being written");
  const auto config = worker::io::JsonConfig::Read(input.path());
  Require(config.ok() == parsed->is_object(), "an object is a configuration");
  if (!config.ok()) return 0;
  Ask(*config, "no such key", 0);
  for (const auto& [name, value] : config->object().items()) Ask(*config, name, 0);
  auto strict = *config;
  (void)strict.FinishStrictly();
  return 0;
}

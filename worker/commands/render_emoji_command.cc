#include <memory>
#include <string>

#include "common/status_macros.h"
#include "fmt/format.h"
#include "worker/commands/commands.h"
#include "worker/data/emoji_renderer.h"
#include "worker/data/emoji_set.h"

namespace loupe::worker {
namespace {

struct RenderEmojiFlags {
  std::string items = "configs/bases/emoji-sd/items.json";
  std::string family = "cat-faces";
  RenderEmojiOptions options{.font_path = kNotoColorEmojiPath, .out_folder = {}, .side = 64};
};

absl::Status RenderEmojiFamily(const RenderEmojiFlags& flags) {
  LOUPE_ASSIGN_OR_RETURN(const auto items, ReadEmojiItems(flags.items));
  LOUPE_ASSIGN_OR_RETURN(const auto family, SelectEmojiFamily(items, flags.family));
  LOUPE_ASSIGN_OR_RETURN(const int64_t count, RenderEmoji(family, flags.options));
  fmt::print("{}: {} pictures of {} pixels ({})\n", flags.options.out_folder, count, flags.options.side, flags.family);
  return absl::OkStatus();
}

}  // namespace

void AddRenderEmojiCommand(CLI::App& app, int& exit_code) {
  auto* command = app.add_subcommand("render-emoji", "Write the built-in data set, or a family of it, as PNG files");
  const auto flags = std::make_shared<RenderEmojiFlags>();
  command->add_option("--out", flags->options.out_folder, "Folder for the pictures and metadata.jsonl")->required();
  command->add_option("--family", flags->family,
                      "cat-faces, monkeys (both held out of the base's training), training, all, or a Unicode subgroup")
      ->capture_default_str();
  command->add_option("--items", flags->items, "The list of emoji")->capture_default_str();
  command->add_option("--font", flags->options.font_path, "Font with colour bitmaps")->capture_default_str();
  command->add_option("--side", flags->options.side, "Pixels")->check(CLI::Range(8, 136))->capture_default_str();
  command->callback([flags, &exit_code] { exit_code = Report("render-emoji", RenderEmojiFamily(*flags)); });
}

}  // namespace loupe::worker

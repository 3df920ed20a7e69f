#include <memory>
#include <string>

#include "common/status_macros.h"
#include "fmt/format.h"
#include "worker/commands/commands.h"
#include "worker/data/emoji_assets.h"
#include "worker/data/emoji_renderer.h"
#include "worker/data/emoji_set.h"

namespace loupe::worker {
namespace {

struct RenderEmojiFlags {
  std::string items = "configs/bases/emoji-sd/items.json";
  std::string family = "cat-faces";
  std::string style = "noto";
  std::string assets = kGemojionePath;
  RenderEmojiOptions options{.font_path = kNotoColorEmojiPath, .out_folder = {}, .side = 64};
};

absl::Status RenderEmojiFamily(RenderEmojiFlags flags) {
  if (flags.style == "gemojione") flags.options.asset_folder = flags.assets;
  LOUPE_ASSIGN_OR_RETURN(const auto items, ReadEmojiItems(flags.items));
  LOUPE_ASSIGN_OR_RETURN(const auto family, SelectEmojiFamily(items, flags.family));
  LOUPE_ASSIGN_OR_RETURN(const int64_t count, RenderEmoji(family, flags.options));
  fmt::print("{}: {} pictures of {} pixels ({}, {})\n", flags.options.out_folder, count, flags.options.side,
             flags.family, flags.style);
  if (count < static_cast<int64_t>(family.size())) {
    fmt::print("{} emoji of the family are not among {}'s pictures\n", static_cast<int64_t>(family.size()) - count,
               flags.style);
  }
  return absl::OkStatus();
}

}  // namespace

void AddRenderEmojiCommand(CLI::App& app, int& exit_code) {
  auto* command = app.add_subcommand("render-emoji", "Write the built-in data set, or a family of it, as PNG files");
  const auto flags = std::make_shared<RenderEmojiFlags>();
  command->add_option("--out", flags->options.out_folder, "Folder for the pictures and metadata.jsonl")->required();
  command
      ->add_option("--family", flags->family,
                   "cat-faces, monkeys (both held out of the base's training), training, all, or a Unicode subgroup")
      ->capture_default_str();
  command->add_option("--items", flags->items, "The list of emoji")->capture_default_str();
  command->add_option("--style", flags->style, "noto: from the font; gemojione: from a folder of pictures")
      ->check(CLI::IsMember({"noto", "gemojione"}))
      ->capture_default_str();
  command->add_option("--assets", flags->assets, "Folder of gemojione's pictures")->capture_default_str();
  command->add_option("--font", flags->options.font_path, "Font with colour bitmaps")->capture_default_str();
  command->add_option("--side", flags->options.side, "Pixels")->check(CLI::Range(8, 136))->capture_default_str();
  command->callback([flags, &exit_code] { exit_code = Report("render-emoji", RenderEmojiFamily(*flags)); });
}

}  // namespace loupe::worker

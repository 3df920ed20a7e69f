#include <memory>
#include <set>
#include <string>

#include "common/status_macros.h"
#include "fmt/format.h"
#include "worker/commands/commands.h"
#include "worker/data/emoji_assets.h"
#include "worker/data/emoji_renderer.h"
#include "worker/data/emoji_set.h"
#include "worker/data/photographs.h"

namespace loupe::worker::commands {
namespace {

struct RenderEmojiFlags {
  std::string items = "configs/bases/emoji-sd/items.json";
  std::string family = "cat-faces";
  std::string held_out = "configs/bases/held-out.json";
  data::RenderEmojiOptions options{.font_path = data::kNotoColorEmojiPath, .out_folder = {}};
};

absl::Status RenderEmojiFamily(RenderEmojiFlags flags) {
  LOUPE_ASSIGN_OR_RETURN(const auto items, data::ReadEmojiItems(flags.items));
  LOUPE_ASSIGN_OR_RETURN(const auto family, data::SelectEmojiFamily(items, flags.family));
  if (flags.options.styled) {
    LOUPE_ASSIGN_OR_RETURN(flags.options.held_out, data::HeldOutRule::Read(flags.held_out));
  }
  LOUPE_ASSIGN_OR_RETURN(const int64_t count, data::RenderEmoji(family, flags.options));
  fmt::print("{}: {} pictures of {} pixels ({}, {})\n", flags.options.out_folder, count, flags.options.side,
             flags.family, flags.options.style);
  if (count < static_cast<int64_t>(family.size())) {
    fmt::print("{} emoji of the family are not among {}'s pictures\n", static_cast<int64_t>(family.size()) - count,
               flags.options.style);
  }
  return absl::OkStatus();
}

struct RenderPhotographsFlags {
  std::string sources = "configs/bases/photographs.json";
  data::RenderPhotographsOptions options;
};

absl::Status RenderPhotographFamily(RenderPhotographsFlags flags) {
  LOUPE_ASSIGN_OR_RETURN(flags.options.sources, data::PhotographSources::Read(flags.sources));
  LOUPE_ASSIGN_OR_RETURN(const int64_t count, data::RenderPhotographs(flags.options));
  fmt::print("{}: {} pictures of {} pixels ({})\n", flags.options.out_folder, count, flags.options.side,
             flags.options.family);
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
  std::set<std::string> styles;
  for (const data::EmojiStyle& style : data::EmojiStyles()) styles.insert(style.name);
  command
      ->add_option("--style", flags->options.style,
                   "Who drew them: noto from the font, the others from folders of pictures")
      ->check(CLI::IsMember(styles))
      ->capture_default_str();
  command->add_option("--assets", flags->options.asset_folder,
                      "Folder of the style's pictures, where it is not in its usual place");
  command->add_option("--font", flags->options.font_path, "Font with colour bitmaps")->capture_default_str();
  command->add_option("--side", flags->options.side, "Pixels")->check(CLI::Range(8, 136))->capture_default_str();
  auto* styled = command->add_flag("--styled", flags->options.styled,
                                   "Captions say the style, and metadata.jsonl has what pretraining reads");
  command
      ->add_flag(
          "--by-class", flags->options.by_class,
          "A folder for each Unicode subgroup, which is the class, in place of metadata.jsonl: for bases that are "
          "told classes")
      ->excludes(styled);
  command->add_option("--held-out", flags->held_out, "With --styled: which styles and pairs are marked as held out")
      ->capture_default_str();
  command->callback([flags, &exit_code] { exit_code = Report("render-emoji", RenderEmojiFamily(*flags)); });
}

void AddRenderPhotographsCommand(CLI::App& app, int& exit_code) {
  auto* command =
      app.add_subcommand("render-photographs", "Write photographed things on grounds and colours as PNG files");
  const auto flags = std::make_shared<RenderPhotographsFlags>();
  command->add_option("--out", flags->options.out_folder, "Folder for the pictures and metadata.jsonl")->required();
  command
      ->add_option(
          "--family", flags->options.family,
          "training, held-out, all, a held-out family (dogs, bears, flowers, fruit), or one thing by its name (teapot)")
      ->capture_default_str();
  command->add_option("--sources", flags->sources, "Which stamps and grounds")->capture_default_str();
  command->add_option("--variations", flags->options.variations, "Pictures of each thing: the first on white")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command->add_option("--side", flags->options.side, "Pixels")->check(CLI::Range(8, 512))->capture_default_str();
  command->callback([flags, &exit_code] { exit_code = Report("render-photographs", RenderPhotographFamily(*flags)); });
}

}  // namespace loupe::worker::commands

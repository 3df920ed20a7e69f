#include "worker/data/photographs.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <optional>
#include <random>
#include <set>
#include <system_error>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "common/atomic_file.h"
#include "common/seed.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "fmt/ranges.h"
#include "nlohmann/json.hpp"
#include "worker/data/emoji_set.h"
#include "worker/io/json_config.h"

namespace loupe::worker::data {
namespace {

namespace fs = std::filesystem;
using Random = std::mt19937_64;

// In [low, high), the same on every platform.
double Between(double low, double high, Random& random) {
  return low + (high - low) * static_cast<double>(random() >> 11) * 0x1.0p-53;
}

struct Colour {
  const char* name;
  std::array<uint8_t, 3> rgb;
};
constexpr std::array kColours = {Colour{"grey", {150, 150, 150}},  Colour{"blue", {90, 140, 210}},
                                 Colour{"green", {120, 180, 110}}, Colour{"yellow", {240, 215, 110}},
                                 Colour{"pink", {240, 170, 190}},  Colour{"brown", {140, 105, 75}},
                                 Colour{"black", {30, 30, 32}},    Colour{"red", {200, 80, 70}}};

io::Image Crop(const io::Image& image, int left, int top, int width, int height) {
  io::Image part{width, height,
                 std::vector<uint8_t>(size_t{3} * static_cast<size_t>(width) * static_cast<size_t>(height))};
  for (int y = 0; y < height; ++y) {
    const auto from = image.rgb.begin() + 3 * (static_cast<ptrdiff_t>(top + y) * image.width + left);
    std::copy(from, from + 3 * width, part.rgb.begin() + 3 * static_cast<ptrdiff_t>(y) * width);
  }
  return part;
}

// A thing without its background: premultiplied colours, and how much of a background shows.
struct CutOut {
  io::Image colours;  // over black
  io::Image shows;    // over white less over black
};

absl::StatusOr<CutOut> ReadCutOut(const std::string& path) {
  LOUPE_ASSIGN_OR_RETURN(const io::Image black, io::ReadImage(path, io::Alpha::kOverBlack));
  LOUPE_ASSIGN_OR_RETURN(io::Image shows, io::ReadImage(path, io::Alpha::kOverWhite));
  for (size_t i = 0; i < shows.rgb.size(); ++i) shows.rgb[i] = static_cast<uint8_t>(shows.rgb[i] - black.rgb[i]);
  int left = shows.width, right = -1, top = shows.height, bottom = -1;
  for (int y = 0; y < shows.height; ++y) {
    for (int x = 0; x < shows.width; ++x) {
      if (shows.rgb[3 * (static_cast<size_t>(y) * static_cast<size_t>(shows.width) + static_cast<size_t>(x))] > 240)
        continue;
      left = std::min(left, x), right = std::max(right, x), top = std::min(top, y), bottom = std::max(bottom, y);
    }
  }
  if (right < 0) return absl::InvalidArgumentError(fmt::format("{}: is transparent everywhere", path));
  const int width = right - left + 1, height = bottom - top + 1;
  return CutOut{Crop(black, left, top, width, height), Crop(shows, left, top, width, height)};
}

void Mirror(io::Image& image) {
  const auto width = static_cast<size_t>(image.width);
  for (size_t y = 0; y < static_cast<size_t>(image.height); ++y) {
    for (size_t x = 0; x < width / 2; ++x) {
      for (size_t c = 0; c < 3; ++c) {
        std::swap(image.rgb[3 * (y * width + x) + c], image.rgb[3 * (y * width + width - 1 - x) + c]);
      }
    }
  }
}

// `share` of the canvas along its longer side, somewhere in it (in the middle without `random`), mirrored half the
// time.
void Paste(const CutOut& thing, double share, Random* random, io::Image& canvas) {
  const double scale = share * canvas.width / std::max(thing.colours.width, thing.colours.height);
  const int width = std::clamp(static_cast<int>(std::lround(thing.colours.width * scale)), 1, canvas.width);
  const int height = std::clamp(static_cast<int>(std::lround(thing.colours.height * scale)), 1, canvas.height);
  io::Image colours = io::ResizeLanczos(thing.colours, width, height),
            shows = io::ResizeLanczos(thing.shows, width, height);
  int left = (canvas.width - width) / 2, top = (canvas.height - height) / 2;
  if (random != nullptr) {
    left = static_cast<int>(Between(0, canvas.width - width + 1, *random));
    top = static_cast<int>(Between(0, canvas.height - height + 1, *random));
    if (Between(0, 1, *random) < 0.5) Mirror(colours), Mirror(shows);
  }
  for (int y = 0; y < height; ++y) {
    const auto from = static_cast<size_t>(3 * y * width),
               to = static_cast<size_t>(3 * ((top + y) * canvas.width + left));
    for (size_t i = 0; i < static_cast<size_t>(3 * width); ++i) {
      const int under = canvas.rgb[to + i] * shows.rgb[from + i] / 255;
      canvas.rgb[to + i] = static_cast<uint8_t>(std::min(255, colours.rgb[from + i] + under));
    }
  }
}

// Lighter above, darker below.
io::Image PlainGround(const Colour& colour, int side) {
  io::Image image{side, side, {}};
  for (int y = 0; y < side; ++y) {
    const double light = 1.12 - 0.24 * y / side;
    for (int x = 0; x < side; ++x) {
      for (const uint8_t c : colour.rgb) image.rgb.push_back(static_cast<uint8_t>(std::min(255.0, c * light)));
    }
  }
  return image;
}

// A square of a photographed ground, of 35 to 100 % of its height.
io::Image GroundSquare(const io::Image& ground, int side, Random& random) {
  const int most = std::min(ground.width, ground.height);
  const int size = static_cast<int>(most * Between(0.35, 1.0, random));
  const int left = static_cast<int>(Between(0, ground.width - size + 1, random));
  const int top = static_cast<int>(Between(0, ground.height - size + 1, random));
  return io::ResizeBicubic(Crop(ground, left, top, size, size), side, side);
}

std::string Slug(const std::string& text) {
  std::string slug;
  for (const char c : text) slug += std::isalnum(static_cast<unsigned char>(c)) != 0 ? c : '-';
  return slug;
}

class Renderer {
 public:
  explicit Renderer(const RenderPhotographsOptions& options) : options_(options) {}

  absl::Status Prepare() {
    std::error_code error;
    fs::create_directories(options_.out_folder, error);
    if (error) {
      return absl::PermissionDeniedError(
          fmt::format("{}: the folder cannot be made ({})", options_.out_folder, error.message()));
    }
    for (const auto& ground : options_.sources.grounds) {
      auto image = io::ReadImage(ground.file);
      if (absl::IsNotFound(image.status())) {
        return absl::NotFoundError(
            fmt::format("{}: there is no such picture; install the Debian package mate-backgrounds", ground.file));
      }
      LOUPE_RETURN_IF_ERROR(image.status());
      grounds_.push_back(io::ResizeShorterSide(*image, 512, io::ResizeBicubic));
    }
    return absl::OkStatus();
  }

  absl::Status Draw(const Stamp& stamp) {
    LOUPE_ASSIGN_OR_RETURN(const CutOut thing, ReadCutOut(options_.sources.stamps + "/" + stamp.path));
    for (int variation = 0; variation < options_.variations; ++variation) {
      Random random(DeriveSeed(0, variation, "photographs/" + stamp.path));
      io::Image canvas{options_.side, options_.side, {}};
      canvas.rgb.assign(size_t{3} * static_cast<size_t>(options_.side) * static_cast<size_t>(options_.side), 255);
      std::string setting;
      if (variation % 2 == 1 && !trained_.empty()) {
        const size_t which = trained_[random() % trained_.size()];
        canvas = GroundSquare(grounds_[which], options_.side, random);
        setting = options_.sources.grounds[which].setting;
      } else if (variation > 0) {
        const Colour& colour = kColours[random() % kColours.size()];
        canvas = PlainGround(colour, options_.side);
        setting = fmt::format("on a {} background", colour.name);
      }
      Paste(thing, variation == 0 ? 0.92 : Between(0.65, 0.95, random), variation == 0 ? nullptr : &random, canvas);
      LOUPE_RETURN_IF_ERROR(Write(canvas,
                                  fmt::format("{}-{}", Slug(stamp.path.substr(0, stamp.path.rfind('.'))), variation),
                                  stamp.name, setting, stamp.hold));
    }
    return absl::OkStatus();
  }

  // The grounds alone.
  absl::Status DrawGrounds(bool held_out) {
    for (size_t i = 0; i < grounds_.size(); ++i) {
      const auto& ground = options_.sources.grounds[i];
      if (ground.hold.empty() == held_out) continue;
      for (int variation = 0; variation < 3 * options_.variations; ++variation) {
        Random random(DeriveSeed(0, variation, "photographs/" + ground.name));
        LOUPE_RETURN_IF_ERROR(Write(GroundSquare(grounds_[i], options_.side, random),
                                    fmt::format("ground-{}-{}", Slug(ground.name), variation), ground.name, "",
                                    ground.hold));
      }
    }
    return absl::OkStatus();
  }

  void UseTrainedGrounds() {
    for (size_t i = 0; i < grounds_.size(); ++i) {
      if (options_.sources.grounds[i].hold.empty()) trained_.push_back(i);
    }
  }

  absl::Status Finish() { return WriteFileIfChanged(options_.out_folder + "/metadata.jsonl", metadata_); }
  int64_t count() const { return count_; }

 private:
  absl::Status Write(const io::Image& image, const std::string& stem, const std::string& name,
                     const std::string& setting, const std::string& hold) {
    const std::string file = stem + ".png";
    LOUPE_RETURN_IF_ERROR(WriteFileIfChanged(options_.out_folder + "/" + file, io::EncodePng(image)));
    const std::string text = "a photo of " + name + (setting.empty() ? "" : " " + setting);
    metadata_ += nlohmann::json({{"file_name", file},
                                 {"text", text},
                                 {"name", name},
                                 {"keywords", nlohmann::json::array()},
                                 {"group", "photo"},
                                 {"style", "photo"},
                                 {"setting", setting},
                                 {"hold", hold}})
                     .dump() +
                 "\n";
    ++count_;
    return absl::OkStatus();
  }

  const RenderPhotographsOptions& options_;
  std::vector<io::Image> grounds_;
  std::vector<size_t> trained_;  // of grounds_
  std::string metadata_;
  int64_t count_ = 0;
};

std::string FirstLine(const std::string& path) {
  const auto text = ReadFile(path);
  return text.ok() ? text->substr(0, text->find_first_of("\r\n")) : "";
}

std::string HoldOf(const PhotographSources& sources, const std::string& path) {
  for (const auto& [family, beginnings] : sources.held_out) {
    for (const std::string& beginning : beginnings) {
      if (absl::StartsWith(path, beginning)) return family;
    }
  }
  return "";
}

}  // namespace

absl::StatusOr<PhotographSources> PhotographSources::Read(const std::string& path) {
  LOUPE_ASSIGN_OR_RETURN(const nlohmann::json json, io::ReadJsonFile(path));
  PhotographSources sources;
  try {
    sources.stamps = json.at("stamps").get<std::string>();
    sources.folders = json.at("folders").get<std::vector<std::string>>();
    sources.skip = json.at("skip").get<std::vector<std::string>>();
    sources.names = json.at("names").get<std::map<std::string, std::string>>();
    sources.held_out = json.at("held_out").get<std::map<std::string, std::vector<std::string>>>();
    for (const auto& ground : json.at("grounds")) {
      sources.grounds.push_back({ground.at("file").get<std::string>(), ground.at("name").get<std::string>(),
                                 ground.at("setting").get<std::string>(), ground.at("hold").get<std::string>()});
    }
  } catch (const nlohmann::json::exception& error) {
    return absl::InvalidArgumentError(fmt::format("{}: {}", path, error.what()));
  }
  return sources;
}

std::string StampName(const std::string& caption) {
  std::string text =
      absl::StrReplaceAll(caption, {{"“", ""}, {"”", ""}, {"’", "'"}, {"‘", "'"}, {"—", ","}, {"\"", ""}});
  text = text.substr(0, text.find_first_of(",(!.;:?"));
  absl::AsciiStrToLower(&text);
  std::vector<std::string> words = absl::StrSplit(text, ' ', absl::SkipEmpty());
  static const std::set<std::string> articles = {"a", "an", "the", "our", "some", "two", "it's"};
  while (!words.empty() && articles.contains(words.front())) words.erase(words.begin());
  if (words.size() > 4) return "";
  return fmt::format("{}", fmt::join(words, " "));
}

absl::StatusOr<std::vector<Stamp>> ListStamps(const PhotographSources& sources) {
  std::error_code error;
  if (!fs::is_directory(sources.stamps, error)) {
    return absl::NotFoundError(
        fmt::format("{}: there is no such folder; install the Debian package tuxpaint-stamps-default", sources.stamps));
  }
  std::vector<Stamp> stamps;
  for (const std::string& folder : sources.folders) {
    for (const auto& entry : fs::recursive_directory_iterator(sources.stamps + "/" + folder, error)) {
      if (entry.path().extension() != ".png") continue;
      const std::string path = fs::relative(entry.path(), sources.stamps).string();
      const bool skipped = std::any_of(sources.skip.begin(), sources.skip.end(),
                                       [&](const std::string& part) { return absl::StrContains(path, part); });
      if (skipped) continue;
      const auto given = sources.names.find(path);
      std::string name = given != sources.names.end()
                             ? given->second
                             : StampName(FirstLine(fs::path(entry.path()).replace_extension(".txt").string()));
      if (name.empty()) {
        name = absl::StrReplaceAll(absl::AsciiStrToLower(entry.path().stem().string()), {{"_", " "}, {"-", " "}});
        while (!name.empty() && (std::isdigit(static_cast<unsigned char>(name.back())) != 0 || name.back() == ' '))
          name.pop_back();
      }
      stamps.push_back({path, name, HoldOf(sources, path)});
    }
    if (error) return absl::NotFoundError(fmt::format("{}/{}: {}", sources.stamps, folder, error.message()));
  }
  std::sort(stamps.begin(), stamps.end(), [](const Stamp& a, const Stamp& b) { return a.path < b.path; });
  return stamps;
}

absl::StatusOr<int64_t> RenderPhotographs(const RenderPhotographsOptions& options) {
  LOUPE_ASSIGN_OR_RETURN(const std::vector<Stamp> stamps, ListStamps(options.sources));
  Renderer renderer(options);
  LOUPE_RETURN_IF_ERROR(renderer.Prepare());
  renderer.UseTrainedGrounds();
  const std::string& family = options.family;
  const bool all = family == "all";
  if (all || family == "training") LOUPE_RETURN_IF_ERROR(renderer.DrawGrounds(/*held_out=*/false));
  if (all || family == "held-out") LOUPE_RETURN_IF_ERROR(renderer.DrawGrounds(/*held_out=*/true));
  for (const Stamp& stamp : stamps) {
    const bool wanted = all || (family == "training" && stamp.hold.empty()) ||
                        (family == "held-out" && !stamp.hold.empty()) || stamp.hold == family || stamp.name == family;
    if (wanted) LOUPE_RETURN_IF_ERROR(renderer.Draw(stamp));
  }
  if (renderer.count() == 0) {
    std::set<std::string> families = {"training", "held-out", "all"};
    for (const auto& [name, paths] : options.sources.held_out) families.insert(name);
    return absl::InvalidArgumentError(
        fmt::format("there is no family or photograph '{}'; expected one of {}, or a thing's name", family,
                    fmt::join(families, ", ")));
  }
  LOUPE_RETURN_IF_ERROR(renderer.Finish());
  return renderer.count();
}

}  // namespace loupe::worker::data

#include "worker/models/picture_preprocessing.h"

#include <torch/utils.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "common/status_macros.h"
#include "fmt/format.h"
#include "worker/io/json_config.h"
#include "worker/runtime/finite.h"

namespace loupe::worker::models {
namespace {

// A number of pixels that older versions write as a number and newer ones as an object; `stretch` is set where that
// object gives height and width.
int64_t ReadSide(io::JsonConfig& json, const char* key, int64_t or_else, bool& stretch) {
  if (!json.Has(key)) return or_else;
  if (json.object().at(key).is_number_integer()) return json.Int(key);
  io::JsonConfig object = json.Object(key);
  stretch = !object.Has("shortest_edge");
  const int64_t side = object.Int(stretch ? "height" : "shortest_edge");
  if (stretch && object.Int("width") != side) object.Refuse("width", fmt::format("the same as height ({})", side));
  if (!object.status().ok()) json.Refuse(key, "a number, or an object with shortest_edge or equal height and width");
  return side;
}

std::array<float, 3> ReadChannels(io::JsonConfig& json, const char* key, double above) {
  std::array<float, 3> channels{};
  const std::vector<double> values = json.Numbers(key);
  if (values.size() != 3 || *std::min_element(values.begin(), values.end()) <= above) {
    json.Refuse(key, above == 0 ? "three numbers above 0" : "three numbers");
    return channels;
  }
  std::copy(values.begin(), values.end(), channels.begin());
  return channels;
}

// Version 5 of transformers writes a CLIPProcessor as one file, with the pictures' part in it; that goes before the
// older file.
absl::StatusOr<io::JsonConfig> ReadFileOf(const std::string& folder) {
  auto whole = io::JsonConfig::Read(folder + "/processor_config.json");
  if (whole.ok() && whole->Has("image_processor")) {
    io::JsonConfig part = whole->Object("image_processor");
    LOUPE_RETURN_IF_ERROR(whole->status());
    return part;
  }
  if (!whole.ok() && !absl::IsNotFound(whole.status())) return whole.status();
  return io::JsonConfig::Read(folder + "/preprocessor_config.json");
}

}  // namespace

absl::StatusOr<PicturePreprocessing> PicturePreprocessing::Read(const std::string& folder, Defaults defaults) {
  LOUPE_ASSIGN_OR_RETURN(io::JsonConfig json, ReadFileOf(folder));
  const bool clip = defaults == Defaults::kClip;
  for (const char* key : {"do_resize", "do_rescale", "do_normalize"}) json.MustBe(key, {true});
  if (json.Has("rescale_factor") && std::abs(json.Number("rescale_factor") * 255 - 1) > 1e-6) {
    json.Refuse("rescale_factor", "1/255");
  }
  PicturePreprocessing result;
  // Pillow's numbers of its filters.
  const int64_t resample = json.Int("resample", clip ? 3 : 2);
  if (resample != 2 && resample != 3) json.Refuse("resample", "2 (bilinear) or 3 (bicubic)");
  result.resize = resample == 2 ? io::ResizeBilinear : io::ResizeBicubic;
  const bool crop = json.Bool("do_center_crop", clip);
  result.stretch = !crop;  // a bare number
  result.resized = ReadSide(json, "size", 224, result.stretch);
  bool square = true;
  result.size = crop ? ReadSide(json, "crop_size", 224, square) : result.resized;
  if (!crop && !result.stretch) json.Refuse("size", "height and width, or do_center_crop with crop_size");
  if (result.size < 1) json.Refuse(crop ? "crop_size" : "size", "at least 1");
  if (result.size > result.resized) json.Refuse("crop_size", fmt::format("at most size ({})", result.resized));
  result.mean = ReadChannels(json, "image_mean", -std::numeric_limits<double>::infinity());
  result.deviation = ReadChannels(json, "image_std", 0);
  LOUPE_RETURN_IF_ERROR(json.status());
  return result;
}

torch::Tensor PicturePreprocessing::Apply(const io::Image& image) const {
  const int side = static_cast<int>(resized);
  const io::Image fitted = stretch ? resize(image, side, side) : io::ResizeShorterSide(image, side, resize);
  const io::Image square = io::CentreCrop(fitted, static_cast<int>(size), static_cast<int>(size));
  const auto bytes = torch::tensor(at::ArrayRef<uint8_t>(square.rgb)).view({size, size, 3}).permute({2, 0, 1});
  const auto column = [](const std::array<float, 3>& values) {
    return torch::tensor(at::ArrayRef<float>(values)).view({3, 1, 1});
  };
  return ((bytes.to(torch::kFloat32) * (1.0 / 255.0) - column(mean)) / column(deviation)).contiguous();
}

torch::Tensor PicturePreprocessing::Apply(std::span<const io::Image> images) const {
  std::vector<torch::Tensor> pixels;
  for (const io::Image& image : images) pixels.push_back(Apply(image));
  return torch::stack(pixels);
}

absl::Status PicturePreprocessing::CheckFits(const std::string& folder, int64_t image_size) const {
  if (size == image_size) return absl::OkStatus();
  return absl::InvalidArgumentError(
      fmt::format("{}: its parts do not fit: preprocessor_config.json makes pictures of {} pixels, but config.json's "
                  "image_size is {}",
                  folder, size, image_size));
}

torch::Tensor EmbedInParts(std::span<const io::Image> images, size_t most, const std::string& what,
                           const std::function<torch::Tensor(std::span<const io::Image>)>& embed) {
  std::vector<torch::Tensor> parts;
  for (size_t first = 0; first < images.size(); first += most) {
    const auto part = images.subspan(first, std::min(most, images.size() - first));
    parts.push_back(embed(part).to(torch::kCPU, torch::kFloat32));
  }
  torch::Tensor all = torch::cat(parts);
  runtime::CheckFinite(all, what);
  return all;
}

}  // namespace loupe::worker::models

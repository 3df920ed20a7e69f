#include "coordinator/http/thumbnail.h"

#include <png.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "absl/strings/numbers.h"
#include "fmt/format.h"
#include "fmt/ranges.h"

namespace loupe::coordinator::http {
namespace {

constexpr size_t kChannels = 3;

// libpng's "simplified" interface: no longjmp comes near our objects.
class PngImage {
 public:
  PngImage() {
    std::memset(&image_, 0, sizeof image_);
    image_.version = PNG_IMAGE_VERSION;
  }
  ~PngImage() { png_image_free(&image_); }
  PngImage(const PngImage&) = delete;
  PngImage& operator=(const PngImage&) = delete;
  png_image* operator->() { return &image_; }
  png_image* get() { return &image_; }
  absl::Status Error() const {
    return absl::FailedPreconditionError(fmt::format("no PNG picture that can be read: {}", image_.message));
  }

 private:
  png_image image_;
};

// Rows of RGB.
struct Pixels {
  size_t width = 0;
  size_t height = 0;
  std::vector<uint8_t> rgb;
};

// Each pixel the mean of its box, whose edges are whole pixels: no box is empty, none is left out.
Pixels ScaledDown(const Pixels& from, size_t width, size_t height) {
  Pixels to{width, height, std::vector<uint8_t>(width * height * kChannels)};
  for (size_t y = 0; y < height; ++y) {
    const size_t top = y * from.height / height, bottom = std::max(top + 1, (y + 1) * from.height / height);
    for (size_t x = 0; x < width; ++x) {
      const size_t left = x * from.width / width, right = std::max(left + 1, (x + 1) * from.width / width);
      uint64_t sum[kChannels] = {};
      for (size_t row = top; row < bottom; ++row) {
        const uint8_t* pixel = from.rgb.data() + (row * from.width + left) * kChannels;
        for (size_t column = left; column < right; ++column) {
          for (size_t c = 0; c < kChannels; ++c) sum[c] += *pixel++;
        }
      }
      const uint64_t count = (bottom - top) * (right - left);
      for (size_t c = 0; c < kChannels; ++c)
        to.rgb[(y * width + x) * kChannels + c] = static_cast<uint8_t>((sum[c] + count / 2) / count);
    }
  }
  return to;
}

absl::StatusOr<std::string> Encode(const Pixels& pixels) {
  PngImage image;
  image->width = static_cast<png_uint_32>(pixels.width);
  image->height = static_cast<png_uint_32>(pixels.height);
  image->format = PNG_FORMAT_RGB;
  png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(*image.get());
  std::string bytes(size, '\0');
  if (png_image_write_to_memory(image.get(), bytes.data(), &size, 0, pixels.rgb.data(), 0, nullptr) == 0)
    return image.Error();
  bytes.resize(size);
  return bytes;
}

}  // namespace

absl::StatusOr<int> ThumbnailWidth(std::string_view text) {
  int width = 0;
  const bool known =
      absl::SimpleAtoi(absl::string_view(text.data(), text.size()), &width) &&
      std::find(std::begin(kThumbnailWidths), std::end(kThumbnailWidths), width) != std::end(kThumbnailWidths);
  if (known) return width;
  return absl::InvalidArgumentError(fmt::format("width: expected one of {}", fmt::join(kThumbnailWidths, ", ")));
}

absl::StatusOr<std::string> MakeThumbnail(std::string_view png, int width) {
  PngImage image;
  if (png_image_begin_read_from_memory(image.get(), png.data(), png.size()) == 0) return image.Error();
  const auto wanted = static_cast<size_t>(width);
  Pixels pixels{image->width, image->height, {}};
  if (pixels.width <= wanted) return std::string(png);
  if (uint64_t{pixels.width} * pixels.height > kMostThumbnailPixels) {
    return absl::FailedPreconditionError(
        fmt::format("a picture of {} × {} pixels is too large for a thumbnail", pixels.width, pixels.height));
  }
  image->format = PNG_FORMAT_RGB;
  pixels.rgb.resize(pixels.width * pixels.height * kChannels);
  const png_color white{255, 255, 255};
  if (png_image_finish_read(image.get(), &white, pixels.rgb.data(), 0, nullptr) == 0) return image.Error();
  return Encode(ScaledDown(pixels, wanted, std::max<size_t>(1, pixels.height * wanted / pixels.width)));
}

std::shared_ptr<const std::string> ThumbnailCache::Find(const std::string& sha256, int width) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = by_key_.find({sha256, width});
  if (found == by_key_.end()) return nullptr;
  entries_.splice(entries_.begin(), entries_, found->second);
  return found->second->bytes;
}

absl::StatusOr<std::shared_ptr<const std::string>> ThumbnailCache::Make(
    const std::string& sha256, int width, const std::function<absl::StatusOr<std::string>()>& read) {
  const std::lock_guard<std::mutex> making(making_);
  // Somebody else may have made it meanwhile.
  if (std::shared_ptr<const std::string> made = Find(sha256, width)) return made;
  const absl::StatusOr<std::string> png = read();
  if (!png.ok()) return png.status();
  absl::StatusOr<std::string> bytes = MakeThumbnail(*png, width);
  if (!bytes.ok()) return bytes.status();
  const auto made = std::make_shared<const std::string>(*std::move(bytes));
  if (made->size() > most_bytes_) return made;
  const std::lock_guard<std::mutex> lock(mutex_);
  entries_.push_front({{sha256, width}, made});
  by_key_[{sha256, width}] = entries_.begin();
  bytes_ += made->size();
  while (bytes_ > most_bytes_) {
    bytes_ -= entries_.back().bytes->size();
    by_key_.erase(entries_.back().key);
    entries_.pop_back();
  }
  return made;
}

}  // namespace loupe::coordinator::http

// PNG pictures made smaller, for pages that show many.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace loupe::coordinator::http {

// What a thumbnail may be wide: few, so that a client cannot have one picture made in a thousand sizes.
inline constexpr int kThumbnailWidths[] = {80, 160, 320, 640};
// Larger files and pictures are not decoded: a picture's pixels take three bytes each.
inline constexpr int64_t kMostThumbnailFile = 32 << 20;
inline constexpr uint64_t kMostThumbnailPixels = 1 << 24;

// "320". INVALID_ARGUMENT lists the widths.
absl::StatusOr<int> ThumbnailWidth(std::string_view text);

// `png` as a PNG of 8-bit RGB of that width, its height in proportion (at least 1), each pixel the mean of those that
// it stands for; what is transparent is over white. A picture that is not wider comes back as it is, byte for byte.
// FAILED_PRECONDITION, with libpng's reason, for what is no PNG picture, or has too many pixels.
absl::StatusOr<std::string> MakeThumbnail(std::string_view png, int width);

// Thumbnails that were made, by the picture's digest and the width; the one that was not asked for longest goes first.
// Thread-safe.
class ThumbnailCache {
 public:
  explicit ThumbnailCache(size_t most_bytes = 32 << 20) : most_bytes_(most_bytes) {}

  // Null where it is not kept.
  std::shared_ptr<const std::string> Find(const std::string& sha256, int width);
  // MakeThumbnail of what `read` gives, kept; errors are its, or those of `read`. One is read and made at a time, for
  // each has a whole picture in memory meanwhile.
  absl::StatusOr<std::shared_ptr<const std::string>> Make(const std::string& sha256, int width,
                                                          const std::function<absl::StatusOr<std::string>()>& read);

 private:
  using Key = std::pair<std::string, int>;
  struct Entry {
    Key key;
    std::shared_ptr<const std::string> bytes;
  };
  const size_t most_bytes_;
  std::mutex making_;
  std::mutex mutex_;
  size_t bytes_ = 0;
  // The latest first.
  std::list<Entry> entries_;
  std::map<Key, std::list<Entry>::iterator> by_key_;
};

}  // namespace loupe::coordinator::http

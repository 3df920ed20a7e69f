#include "analysis/report/picture_source.h"

#include <utility>

#include "analysis/report/svg_figure.h"
#include "fmt/format.h"

namespace loupe::analysis::report {
namespace {

constexpr std::string_view kPngMagic("\x89PNG\r\n\x1a\n", 8), kJpegMagic("\xff\xd8\xff", 3);

constexpr const char* kRemark = "<span class=\"soft\">{}</span><br>";

}  // namespace

std::string EncodeBase64(std::string_view bytes) {
  static constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t group = 0;
    for (size_t j = 0; j < 3; ++j) {
      group = group << 8 | (i + j < bytes.size() ? static_cast<unsigned char>(bytes[i + j]) : 0u);
    }
    for (size_t j = 0; j < 4; ++j) {
      out += i + j > bytes.size() ? '=' : kDigits[group >> (18 - 6 * j) & 63];
    }
  }
  return out;
}

PictureSource::PictureSource(Loader loader, int64_t budget_bytes)
    : loader_(std::move(loader)), budget_bytes_(budget_bytes) {}

std::string PictureSource::ImageTag(int64_t trial_index, std::string_view description) {
  auto found = loaded_.find(trial_index);
  if (found == loaded_.end()) {
    absl::StatusOr<std::string> bytes = loader_(trial_index);
    found = loaded_.emplace(trial_index, bytes.ok() ? *std::move(bytes) : std::string()).first;
  }
  const std::string& bytes = found->second;
  if (bytes.empty()) return fmt::format(kRemark, "no picture");
  const bool png = bytes.starts_with(kPngMagic);
  if (!png && !bytes.starts_with(kJpegMagic)) return fmt::format(kRemark, "unreadable picture");
  if (static_cast<int64_t>(bytes.size()) > budget_bytes_) {
    ++left_out_;
    return fmt::format(kRemark, "left out");
  }
  budget_bytes_ -= static_cast<int64_t>(bytes.size());
  return fmt::format("<img loading=\"lazy\" alt=\"{}\" src=\"data:image/{};base64,{}\">", EscapeHtml(description),
                     png ? "png" : "jpeg", EncodeBase64(bytes));
}

}  // namespace loupe::analysis::report

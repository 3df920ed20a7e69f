// WebP, through libwebp.
#include <webp/decode.h>
#include <webp/demux.h>

#include <memory>

#include "worker/io/picture_formats.h"

namespace loupe::worker::io {
namespace {

constexpr char kBadWebp[] = "a damaged WebP picture, or one that is not whole";

std::string_view WebpChunk(const WebPDemuxer* file, const char* name, WebPChunkIterator& chunk) {
  if (WebPDemuxGetChunk(file, name, 1, &chunk) == 0) return {};
  return {reinterpret_cast<const char*>(chunk.chunk.bytes), chunk.chunk.size};
}

int WebpOrientation(const WebPDemuxer* file) {
  WebPChunkIterator exif{}, xmp{};
  auto found = ExifOrientation(WebpChunk(file, "EXIF", exif));
  if (!found) found = XmpOrientation(WebpChunk(file, "XMP ", xmp));
  WebPDemuxReleaseChunkIterator(&exif);
  WebPDemuxReleaseChunkIterator(&xmp);
  return found.value_or(1);
}

std::optional<std::string> DecodeFirstFrame(const WebPData& data, StoredPicture& picture) {
  const std::unique_ptr<WebPAnimDecoder, decltype(&WebPAnimDecoderDelete)> decoder(WebPAnimDecoderNew(&data, nullptr),
                                                                                   WebPAnimDecoderDelete);
  uint8_t* canvas = nullptr;  // the decoder's
  int timestamp_ms = 0;
  if (decoder == nullptr || WebPAnimDecoderGetNext(decoder.get(), &canvas, &timestamp_ms) == 0) return kBadWebp;
  picture.rgba.assign(canvas, canvas + 4 * picture.width * picture.height);
  picture.warnings.push_back("is animated; the first picture is used");
  return std::nullopt;
}

}  // namespace

std::optional<std::string> DecodeWebp(std::string_view bytes, StoredPicture& picture) {
  const WebPData data{reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()};
  const std::unique_ptr<WebPDemuxer, decltype(&WebPDemuxDelete)> file(WebPDemux(&data), WebPDemuxDelete);
  if (file == nullptr) return kBadWebp;
  picture.width = WebPDemuxGetI(file.get(), WEBP_FF_CANVAS_WIDTH);
  picture.height = WebPDemuxGetI(file.get(), WEBP_FF_CANVAS_HEIGHT);
  if (picture.width * picture.height > kMaxPixelsOfFlat) return kTooManyPixelsOfFlat;
  picture.orientation = WebpOrientation(file.get());
  if ((WebPDemuxGetI(file.get(), WEBP_FF_FORMAT_FLAGS) & ANIMATION_FLAG) != 0) return DecodeFirstFrame(data, picture);
  // The size within the picture, which the canvas only repeats.
  WebPBitstreamFeatures features;
  if (WebPGetFeatures(data.bytes, data.size, &features) != VP8_STATUS_OK ||
      static_cast<uint64_t>(features.width) != picture.width ||
      static_cast<uint64_t>(features.height) != picture.height) {
    return kBadWebp;
  }
  picture.rgba.resize(4 * picture.width * picture.height);
  if (WebPDecodeRGBAInto(data.bytes, data.size, picture.rgba.data(), picture.rgba.size(), 4 * features.width) ==
      nullptr) {
    return kBadWebp;
  }
  return std::nullopt;
}

}  // namespace loupe::worker::io

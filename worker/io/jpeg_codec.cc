// JPEG, through libjpeg-turbo.
#include <jpeglib.h>

#include <csetjmp>
#include <cstdio>
// The library's message numbers, which tell a harmless warning from damage.
#include <jerror.h>

#include "worker/io/picture_formats.h"

namespace loupe::worker::io {
namespace {

// A block takes at least a bit, and with whatever subsampling there is a block for every 128 pixels.
constexpr uint64_t kMostPixelsPerJpegByte = 1024;
// Each scan of a progressive JPEG goes over the whole picture again. Encoders write about ten.
constexpr int kMostJpegScans = 200;
constexpr size_t kMostJpegWarnings = 3;

// The library reports errors by longjmp; see png_codec.cc.
struct JpegErrors {
  jpeg_error_mgr manager;  // first, so that the library's pointer to it is ours
  char message[JMSG_LENGTH_MAX];
  std::jmp_buf jump;
  std::vector<std::string>* warnings;
};

JpegErrors& ErrorsOf(j_common_ptr jpeg) { return *reinterpret_cast<JpegErrors*>(jpeg->err); }

[[noreturn]] void OnJpegError(j_common_ptr jpeg) {
  JpegErrors& errors = ErrorsOf(jpeg);
  errors.manager.format_message(jpeg, errors.message);
  std::longjmp(errors.jump, 1);
}

[[noreturn]] void RefuseJpeg(j_common_ptr jpeg, const char* why) {
  std::snprintf(ErrorsOf(jpeg).message, JMSG_LENGTH_MAX, "%s", why);
  std::longjmp(ErrorsOf(jpeg).jump, 1);
}

void OnJpegProgress(j_common_ptr jpeg) {
  if (reinterpret_cast<j_decompress_ptr>(jpeg)->input_scan_number > kMostJpegScans)
    RefuseJpeg(jpeg, "more than 200 scans");
}

// Whether every block of the picture was there all the same.
bool IsHarmless(j_common_ptr jpeg) {
  switch (jpeg->err->msg_code) {
    case JWRN_EXTRANEOUS_DATA:  // bytes between two segments that belong to neither
    case JWRN_ADOBE_XFORM:      // Adobe's marker with a number that says nothing about the colours
    case JWRN_JFIF_MAJOR:       // another revision of the header
    case JWRN_NOT_SEQUENTIAL:   // a scan's header that means nothing in a picture of this kind
      return true;
    // The end marker is missing. Of one scan the entropy decoder says besides if data are missing; of several, whole
    // scans may be.
    case JWRN_JPEG_EOF:
      return jpeg_has_multiple_scans(reinterpret_cast<j_decompress_ptr>(jpeg)) == FALSE;
    default:
      return false;
  }
}

// libjpeg goes on past damage with a warning; a picture that is not whole is refused instead.
void OnJpegMessage(j_common_ptr jpeg, int level) {
  if (level >= 0) return;
  if (!IsHarmless(jpeg)) OnJpegError(jpeg);
  std::vector<std::string>& warnings = *ErrorsOf(jpeg).warnings;
  if (warnings.size() >= kMostJpegWarnings) return;
  char message[JMSG_LENGTH_MAX];
  jpeg->err->format_message(jpeg, message);
  warnings.push_back(message);
}

int JpegOrientation(const jpeg_decompress_struct& jpeg) {
  constexpr std::string_view kXmp("http://ns.adobe.com/xap/1.0/\0", 29);
  std::optional<int> of_xmp;
  for (const jpeg_marker_struct* marker = jpeg.marker_list; marker != nullptr; marker = marker->next) {
    const std::string_view data(reinterpret_cast<const char*>(marker->data), marker->data_length);
    if (data.starts_with("Exif")) {
      if (const auto found = ExifOrientation(data)) return *found;
    } else if (data.starts_with(kXmp) && !of_xmp) {
      of_xmp = XmpOrientation(data);
    }
  }
  return of_xmp.value_or(1);
}

// x·y / 255, rounded.
unsigned Times(unsigned x, unsigned y) {
  const unsigned product = x * y + 128;
  return ((product >> 8) + product) >> 8;
}

// Four inks as Adobe stores them, 255 for none, to red, green and blue by R = (1 − C)(1 − K): what Pillow makes of
// them. Without the inks' colour profile there is no truer way.
void InksToRgb(std::vector<uint8_t>& pixels) {
  for (size_t i = 0; i < pixels.size(); i += 4) {
    const unsigned light = pixels[i + 3];
    for (size_t c = 0; c < 3; ++c) pixels[i + c] = static_cast<uint8_t>(light - Times(255u - pixels[i + c], light));
    pixels[i + 3] = 255;
  }
}

bool DecodeJpegRows(jpeg_decompress_struct& jpeg, JpegErrors& errors, std::string_view bytes, StoredPicture& picture) {
  if (setjmp(errors.jump) != 0) return false;
  jpeg_create_decompress(&jpeg);
  jpeg_progress_mgr progress{};
  progress.progress_monitor = OnJpegProgress;
  jpeg.progress = &progress;
  jpeg_mem_src(&jpeg, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
  jpeg_save_markers(&jpeg, JPEG_APP0 + 1, 0xFFFF);
  jpeg_read_header(&jpeg, TRUE);
  const auto common = reinterpret_cast<j_common_ptr>(&jpeg);
  const uint64_t pixels = uint64_t{jpeg.image_width} * jpeg.image_height;
  if (pixels > kMaxPixels) RefuseJpeg(common, kTooManyPixels);
  // In arithmetic coding, which hardly anything writes, no bytes at all can stand for any number of blocks.
  if (jpeg.arith_code) RefuseJpeg(common, "arithmetic coding; expected Huffman's, which a JPEG is saved in as a rule");
  if (pixels / kMostPixelsPerJpegByte > bytes.size()) RefuseJpeg(common, kTooShort);
  const bool inks = jpeg.num_components == 4;
  jpeg.out_color_space = inks ? JCS_CMYK : JCS_EXT_RGBA;
  jpeg_start_decompress(&jpeg);
  picture.width = jpeg.output_width;
  picture.height = jpeg.output_height;
  picture.rgba.resize(4 * picture.width * picture.height);
  while (jpeg.output_scanline < jpeg.output_height) {
    JSAMPROW row = picture.rgba.data() + 4 * picture.width * jpeg.output_scanline;
    jpeg_read_scanlines(&jpeg, &row, 1);
  }
  picture.orientation = JpegOrientation(jpeg);
  jpeg_finish_decompress(&jpeg);  // forgets the markers
  if (inks) InksToRgb(picture.rgba);
  return true;
}

}  // namespace

std::optional<std::string> DecodeJpeg(std::string_view bytes, StoredPicture& picture) {
  jpeg_decompress_struct jpeg{};
  JpegErrors errors{};
  errors.warnings = &picture.warnings;
  jpeg.err = jpeg_std_error(&errors.manager);
  errors.manager.error_exit = OnJpegError;
  errors.manager.emit_message = OnJpegMessage;
  const bool ok = DecodeJpegRows(jpeg, errors, bytes, picture);
  jpeg_destroy_decompress(&jpeg);
  if (!ok) return errors.message;
  return std::nullopt;
}

}  // namespace loupe::worker::io

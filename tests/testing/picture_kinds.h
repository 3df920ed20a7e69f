// Small pictures of the kinds that each format has and that this program does not write itself: 20 × 20 pixels each.
#pragma once

#include <string>
#include <vector>

namespace loupe::testing {

// Grey, palette with transparency, 16 bits, one bit, interlaced, with text beside the picture.
std::vector<std::string> PngKinds();

// Baseline and progressive, colour, grey and four inks (CMYK and YCCK), with restart markers.
std::vector<std::string> JpegKinds();

// Lossy, and lossless with transparency.
std::vector<std::string> WebpKinds();

// Plain; interlaced, transparent, on a larger canvas and with a second picture.
std::vector<std::string> GifKinds();

// In strips and tiles; RGB of 8 and 16 bits, palette, grey with alpha, four inks; uncompressed, LZW and packed bits.
std::vector<std::string> TiffKinds();

// An EXIF block that says nothing but the orientation, of either byte order, as in PNG's eXIf.
std::string ExifOfOrientation(int orientation, bool big_endian);
// `jpeg` with it in an APP1 segment; `png` with it in an eXIf chunk before the picture.
std::string JpegWithExif(const std::string& jpeg, const std::string& exif);
std::string PngWithExif(const std::string& png, const std::string& exif);

// A grey progressive JPEG of `scans` scans: 1, or 1 + 63·k for the k highest bits of each coefficient, one by one. k
// ≤ 14.
std::string JpegOfScans(int scans);

// `bytes` with the checksum of each PNG chunk put right, as far as chunks can be made out.
std::string WithPngChecksums(std::string bytes);

}  // namespace loupe::testing

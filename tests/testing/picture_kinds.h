// Small pictures of the kinds that PNG and JPEG have and that this program does not write itself: 20 × 20 pixels each.
#pragma once

#include <string>
#include <vector>

namespace loupe::testing {

// Grey, palette with transparency, 16 bits, one bit, interlaced, with text beside the picture.
std::vector<std::string> PngKinds();

// Baseline and progressive, colour and grey, with restart markers.
std::vector<std::string> JpegKinds();

// A grey progressive JPEG of `scans` scans: 1, or 1 + 63·k for the k highest bits of each coefficient, one by one. k ≤ 14.
std::string JpegOfScans(int scans);

// `bytes` with the checksum of each PNG chunk put right, as far as chunks can be made out.
std::string WithPngChecksums(std::string bytes);

}  // namespace loupe::testing

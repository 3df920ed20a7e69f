#include <algorithm>
#include <cmath>

#include "worker/io/image.h"

namespace loupe::worker::io {
namespace {

constexpr int kFractionBits = 22;

// Keys' cubic convolution kernel with a = −1/2 (Keys 1981).
double Cubic(double x) {
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

double Triangle(double x) { return std::max(0.0, 1 - std::abs(x)); }

double Sinc(double x) {
  if (x == 0) return 1;
  x *= M_PI;
  return std::sin(x) / x;
}

// The sinc function windowed by its own first three lobes.
double Lanczos3(double x) { return -3 <= x && x < 3 ? Sinc(x) * Sinc(x / 3) : 0; }

struct Filter {
  double (*kernel)(double);
  double support;  // the kernel is 0 beyond it
};
constexpr Filter kBilinear{Triangle, 1.0};
constexpr Filter kBicubic{Cubic, 2.0};
constexpr Filter kLanczos{Lanczos3, 3.0};

// The inputs that make one output, and their weights in fixed point.
struct Taps1D {
  int first;
  std::vector<int32_t> weights;
};

std::vector<Taps1D> MakeTaps(const Filter& filter, int in, int out) {
  const double scale = static_cast<double>(in) / out;
  const double stretch = std::max(scale, 1.0);
  const double support = filter.support * stretch;
  std::vector<Taps1D> taps;
  for (int i = 0; i < out; ++i) {
    const double centre = (i + 0.5) * scale;
    const int first = std::max(static_cast<int>(centre - support + 0.5), 0);
    const int last = std::min(static_cast<int>(centre + support + 0.5), in);
    std::vector<double> weights;
    double sum = 0;
    for (int j = first; j < last; ++j) {
      weights.push_back(filter.kernel((j - centre + 0.5) * (1.0 / stretch)));
      sum += weights.back();
    }
    Taps1D tap{first, {}};
    for (double weight : weights) {
      if (sum != 0) weight *= 1.0 / sum;
      const double fixed = weight * (1 << kFractionBits);
      tap.weights.push_back(static_cast<int32_t>(fixed < 0 ? fixed - 0.5 : fixed + 0.5));
    }
    taps.push_back(std::move(tap));
  }
  return taps;
}

uint8_t ToByte(int32_t fixed) { return static_cast<uint8_t>(std::clamp(fixed >> kFractionBits, 0, 255)); }

// One line of one pass: taps.size() pixels from pixels that lie `step` bytes apart, as the results do.
void Resample(const uint8_t* in, uint8_t* out, const std::vector<Taps1D>& taps, size_t step) {
  for (size_t i = 0; i < taps.size(); ++i) {
    for (size_t c = 0; c < 3; ++c) {
      int32_t sum = 1 << (kFractionBits - 1);
      const uint8_t* from = in + static_cast<size_t>(taps[i].first) * step + c;
      for (const int32_t weight : taps[i].weights) {
        sum += weight * *from;
        from += step;
      }
      out[i * step + c] = ToByte(sum);
    }
  }
}

Image ResizeRows(const Filter& filter, const Image& image, int width) {
  if (width == image.width) return image;
  Image out{width, image.height, std::vector<uint8_t>(size_t{3} * width * image.height)};
  const auto taps = MakeTaps(filter, image.width, width);
  for (size_t y = 0; y < static_cast<size_t>(image.height); ++y) {
    Resample(image.rgb.data() + 3 * y * image.width, out.rgb.data() + 3 * y * width, taps, 3);
  }
  return out;
}

Image ResizeColumns(const Filter& filter, const Image& image, int height) {
  if (height == image.height) return image;
  Image out{image.width, height, std::vector<uint8_t>(size_t{3} * image.width * height)};
  const auto taps = MakeTaps(filter, image.height, height);
  for (size_t x = 0; x < static_cast<size_t>(image.width); ++x) {
    Resample(image.rgb.data() + 3 * x, out.rgb.data() + 3 * x, taps, size_t{3} * image.width);
  }
  return out;
}

Image Resize(const Filter& filter, const Image& image, int width, int height) {
  return ResizesColumnsFirst(image, width, height) ? ResizeRows(filter, ResizeColumns(filter, image, height), width)
                                                   : ResizeColumns(filter, ResizeRows(filter, image, width), height);
}

}  // namespace

bool ResizesColumnsFirst(const Image& image, int width, int height) {
  return image.height - height > std::max(0, 2 * (image.width - width));
}

Image ResizeBilinear(const Image& image, int width, int height) { return Resize(kBilinear, image, width, height); }

Image ResizeBicubic(const Image& image, int width, int height) { return Resize(kBicubic, image, width, height); }

Image ResizeLanczos(const Image& image, int width, int height) { return Resize(kLanczos, image, width, height); }

Image CentreCrop(const Image& image, int width, int height) {
  const int left = (image.width - width) / 2, top = (image.height - height) / 2;
  Image out{width, height, {}};
  out.rgb.reserve(size_t{3} * width * height);
  for (int y = 0; y < height; ++y) {
    const auto row = image.rgb.begin() + (static_cast<std::ptrdiff_t>(top + y) * image.width + left) * 3;
    out.rgb.insert(out.rgb.end(), row, row + static_cast<std::ptrdiff_t>(width) * 3);
  }
  return out;
}

Image ResizeShorterSide(const Image& image, int side, Image (*resize)(const Image& image, int width, int height)) {
  const int shorter = std::min(image.width, image.height), longer = std::max(image.width, image.height);
  const int longer_side = static_cast<int>(static_cast<int64_t>(side) * longer / shorter);
  const bool upright = image.width <= image.height;
  return resize(image, upright ? side : longer_side, upright ? longer_side : side);
}

Image ResizeAndCrop(const Image& image, int side) {
  return CentreCrop(ResizeShorterSide(image, side, ResizeBicubic), side, side);
}

}  // namespace loupe::worker::io

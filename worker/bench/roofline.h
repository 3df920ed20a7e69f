// Where the time of a training step and of a sampling step goes, by kind of module, beside what the machine can do:
// `loupe-worker bench`. No LibTorch in this header.
//
// The roof (Williams, Waterman & Patterson 2009, "Roofline"): with F operations on B bytes nothing is faster than
// max(F / peak, B / bandwidth), both measured here on the same threads. Bytes are an operator's arguments and results
// once each, whatever the caches hold: small tensors that stay there may be read faster than memory allows, so a
// share of the roof may exceed 1.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace loupe::worker::bench {

struct RooflineRequest {
  std::string base;
  bool train = true, sample = true;
  int64_t batch = 8;                  // rows of a training step; pictures that are sampled together
  int repeats = 5;                    // measured steps; two more before them warm up and are counted
  std::string precision = "float32";  // or "bf16": of the training step, as train.precision. Sampling has float32
  std::string device = "auto";
  int threads = 0;
};

// Per second, the most of several runs.
struct MachinePeak {
  std::string precision;  // of the products
  double product_flops = 0, convolution_flops = 0;
  double copy_bytes = 0, triad_bytes = 0;  // float32; read and written

  double flops() const;
  double bytes() const;
};

struct RooflineRow {
  std::string kind;
  double forward_seconds = 0, backward_seconds = 0;
  double forward_flops = 0, backward_flops = 0;  // a multiply-add is two; norms, activations and sums count as none
  double bytes = 0;

  double seconds() const { return forward_seconds + backward_seconds; }
  double flops() const { return forward_flops + backward_flops; }
};

// Something that is done as a whole, and its parts.
struct RooflineSection {
  std::string name;  // "training step"
  std::string rows;  // "8 rows"
  std::string precision;
  // The step whose time is the median of the watched ones; the rows, "other" among them, add up to it.
  double seconds = 0;
  // The median of as many that nobody watched.
  double unwatched_seconds = 0;
  std::vector<RooflineRow> parts;
};

struct Roofline {
  std::string base, network, device;
  double weights = 0;  // of the denoiser
  int threads = 0, repeats = 0;
  bool processor_time = false;  // seconds are the process's; else elapsed
  std::vector<MachinePeak> peaks;
  std::vector<RooflineSection> sections;

  const MachinePeak& PeakOf(const std::string& precision) const;
};

// How near a part comes to the least time that the machine needs for it, 0 … 1; 0 where nothing is counted.
double ShareOfRoof(const RooflineRow& row, const MachinePeak& peak);

// INVALID_ARGUMENT or NOT_FOUND says what of base, device or options does not fit. One at a time in a process.
absl::StatusOr<Roofline> MeasureRoofline(const RooflineRequest& request);

// A table for each section, and the same as JSON.
std::string RooflineMarkdown(const Roofline& roofline);
std::string RooflineJson(const Roofline& roofline);

}  // namespace loupe::worker::bench

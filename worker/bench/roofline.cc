#include "worker/bench/roofline.h"

#include <ATen/Parallel.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>

#include "fmt/format.h"
#include "nlohmann/json.hpp"
#include "worker/bench/base_steps.h"
#include "worker/bench/machine_peak.h"
#include "worker/executor/attached_adapter.h"
#include "worker/executor/failure_status.h"
#include "worker/runtime/device.h"
#include "worker/runtime/user_error.h"

namespace loupe::worker::bench {
namespace {

Roofline MeasureOrThrow(const RooflineRequest& request) {
  if (request.precision != "float32" && request.precision != "bf16") {
    throw runtime::UserError(fmt::format("precision '{}': expected float32 or bf16", request.precision));
  }
  if (request.batch < 1 || request.repeats < 1) throw runtime::UserError("batch and repeats: expected 1 or more");
  if (!request.train && !request.sample) throw runtime::UserError("neither training nor sampling is to be measured");
  executor::OpenedBase opened(request.base, "", request.device, request.threads);
  base::BaseModel& base = opened.base.model;
  const torch::Device device = opened.models.device();
  const StepClock clock(device);
  Roofline roofline{.base = request.base,
                    .network = base.denoiser->name(),
                    .device = runtime::DescribeDevice(device),
                    .threads = at::get_num_threads(),
                    .repeats = request.repeats,
                    .processor_time = clock.processor_time()};
  for (const torch::Tensor& weight : base.denoiser->network().parameters()) {
    roofline.weights += static_cast<double>(weight.numel());
  }
  roofline.peaks.push_back(MeasurePeak("float32", device, clock));
  if (request.train && request.precision != "float32") {
    roofline.peaks.push_back(MeasurePeak(request.precision, device, clock));
  }
  roofline.sections = WatchBase(base, request, clock);
  return roofline;
}

// Of a section, or of its sum.
std::string TableLine(const std::string& name, const RooflineRow& row, double seconds, const MachinePeak* peak,
                      bool backward) {
  const auto number = [](bool known, int digits, double value) {
    return known ? fmt::format(" {:.{}f} |", value, digits) : std::string(" |");
  };
  std::string line = fmt::format("| {} | {:.2f} |", name, 1e3 * row.forward_seconds);
  if (backward) line += fmt::format(" {:.2f} |", 1e3 * row.backward_seconds);
  line += fmt::format(" {:.1f} % |", 100 * row.seconds() / seconds);
  line += number(row.flops() > 0, 3, row.flops() / 1e9);
  line += number(row.bytes > 0, 1, row.bytes / 1e6);
  line += number(row.flops() > 0, 1, row.flops() / row.seconds() / 1e9);
  line += number(row.bytes > 0, 1, row.bytes / row.seconds() / 1e9);
  line += number(row.flops() > 0 && row.bytes > 0, 1, row.flops() / row.bytes);
  const double share = peak == nullptr ? 0 : ShareOfRoof(row, *peak);
  line += share > 0 ? fmt::format(" {:.0f} % |\n", 100 * share) : " |\n";
  return line;
}

RooflineRow SumOf(const RooflineSection& section) {
  RooflineRow sum;
  for (const RooflineRow& row : section.parts) {
    sum.forward_seconds += row.forward_seconds;
    sum.backward_seconds += row.backward_seconds;
    sum.forward_flops += row.forward_flops;
    sum.backward_flops += row.backward_flops;
    sum.bytes += row.bytes;
  }
  return sum;
}

}  // namespace

const MachinePeak& Roofline::PeakOf(const std::string& precision) const {
  const auto found =
      std::find_if(peaks.begin(), peaks.end(), [&](const MachinePeak& peak) { return peak.precision == precision; });
  TORCH_CHECK(found != peaks.end(), "no peak was measured in ", precision);
  return *found;
}

double ShareOfRoof(const RooflineRow& row, const MachinePeak& peak) {
  if (row.seconds() <= 0) return 0;
  return std::max(row.flops() / peak.flops(), row.bytes / peak.bytes()) / row.seconds();
}

absl::StatusOr<Roofline> MeasureRoofline(const RooflineRequest& request) {
  Roofline roofline;
  const absl::Status status = executor::StatusOfThrown([&] { roofline = MeasureOrThrow(request); });
  if (!status.ok()) return status;
  return roofline;
}

std::string RooflineMarkdown(const Roofline& roofline) {
  std::string text = fmt::format("{}: {} of {:.2f} million weights, {}, {} {}, {}, medians of {}\n\n", roofline.base,
                                 roofline.network, roofline.weights / 1e6, roofline.device, roofline.threads,
                                 roofline.threads == 1 ? "thread" : "threads",
                                 roofline.processor_time ? "processor time" : "elapsed time", roofline.repeats);
  text += "| peak | matrix product | convolution | copy | triad |\n|---|---|---|---|---|\n";
  for (const MachinePeak& peak : roofline.peaks) {
    text += fmt::format("| {} | {:.1f} GFLOP/s | {:.1f} GFLOP/s | {:.1f} GB/s | {:.1f} GB/s |\n", peak.precision,
                        peak.product_flops / 1e9, peak.convolution_flops / 1e9, peak.copy_bytes / 1e9,
                        peak.triad_bytes / 1e9);
  }
  for (const RooflineSection& section : roofline.sections) {
    const RooflineRow sum = SumOf(section);
    const bool backward = sum.backward_seconds > 0;
    const MachinePeak& peak = roofline.PeakOf(section.precision);
    text += fmt::format("\n{} ({}, {}): {:.2f} ms; watched {:.2f} ms\n\n", section.name, section.rows,
                        section.precision, 1e3 * section.unwatched_seconds, 1e3 * section.seconds);
    text += fmt::format("| module | {} | share | GFLOP | MB | GFLOP/s | GB/s | FLOP/byte | of the roof |\n",
                        backward ? "forward ms | backward ms" : "ms");
    text += backward ? "|---|---|---|---|---|---|---|---|---|---|\n" : "|---|---|---|---|---|---|---|---|---|\n";
    for (const RooflineRow& row : section.parts) text += TableLine(row.kind, row, section.seconds, &peak, backward);
    text += TableLine("all", sum, section.seconds, nullptr, backward);
  }
  return text;
}

std::string RooflineJson(const Roofline& roofline) {
  nlohmann::ordered_json json = {{"base", roofline.base},
                                 {"network", roofline.network},
                                 {"weights", roofline.weights},
                                 {"device", roofline.device},
                                 {"threads", roofline.threads},
                                 {"repeats", roofline.repeats},
                                 {"clock", roofline.processor_time ? "processor" : "elapsed"}};
  for (const MachinePeak& peak : roofline.peaks) {
    json["peaks"].push_back({{"precision", peak.precision},
                             {"product_flops", peak.product_flops},
                             {"convolution_flops", peak.convolution_flops},
                             {"copy_bytes", peak.copy_bytes},
                             {"triad_bytes", peak.triad_bytes}});
  }
  for (const RooflineSection& section : roofline.sections) {
    const MachinePeak& peak = roofline.PeakOf(section.precision);
    nlohmann::ordered_json parts = nlohmann::ordered_json::array();
    for (const RooflineRow& row : section.parts) {
      parts.push_back({{"kind", row.kind},
                       {"forward_seconds", row.forward_seconds},
                       {"backward_seconds", row.backward_seconds},
                       {"share", row.seconds() / section.seconds},
                       {"forward_flops", row.forward_flops},
                       {"backward_flops", row.backward_flops},
                       {"bytes", row.bytes},
                       {"share_of_roof", ShareOfRoof(row, peak)}});
    }
    json["sections"].push_back({{"name", section.name},
                                {"rows", section.rows},
                                {"precision", section.precision},
                                {"seconds", section.seconds},
                                {"unwatched_seconds", section.unwatched_seconds},
                                {"parts", std::move(parts)}});
  }
  return json.dump(2) + "\n";
}

}  // namespace loupe::worker::bench

#include "worker/runtime/finite.h"

#include <torch/utils.h>

#include <cmath>

#include "fmt/format.h"
#include "fmt/ranges.h"

namespace loupe::worker::runtime {

std::string DescribeNotFinite(const torch::Tensor& given) {
  if (given.numel() == 0 || !given.is_floating_point()) return "";
  torch::NoGradGuard no_grad;
  // Floats of 8 bits have no arithmetic of their own.
  const torch::Tensor values = given.element_size() < 2 ? given.to(torch::kFloat32) : given;
  // NaN goes through both, infinity is one of them.
  const auto [least, largest] = torch::aminmax(values.detach());
  if (std::isfinite(least.item<double>()) && std::isfinite(largest.item<double>())) return "";
  const auto flat = values.detach().contiguous().flatten();
  const auto wrong = flat.isfinite().logical_not().nonzero().flatten().cpu();
  int64_t rest = wrong[0].item<int64_t>();
  const double first = flat[rest].item<double>();
  std::vector<int64_t> place(static_cast<size_t>(values.dim()));
  for (int64_t dim = values.dim() - 1; dim >= 0; --dim) {
    place[static_cast<size_t>(dim)] = rest % values.size(dim);
    rest /= values.size(dim);
  }
  return fmt::format("{} of {} values are not finite (the first is {}, at [{}])", wrong.numel(), values.numel(), first,
                     fmt::join(place, ", "));
}

void CheckFinite(const torch::Tensor& values, const std::string& what) {
  if (const std::string found = DescribeNotFinite(values); !found.empty()) throw NotFinite(what + ": " + found);
}

}  // namespace loupe::worker::runtime

#include "worker/bench/operator_work.h"

#include <algorithm>
#include <cmath>
#include <string_view>

namespace loupe::worker::bench {
namespace {

const void* StorageOf(const torch::Tensor& tensor) {
  return tensor.has_storage() ? tensor.storage().unsafeGetStorageImpl() : nullptr;
}

// An expanded tensor has no more than its storage.
double BytesOf(const torch::Tensor& tensor) {
  if (!tensor.has_storage()) return 0;
  return std::min(static_cast<double>(tensor.numel()) * static_cast<double>(tensor.itemsize()),
                  static_cast<double>(tensor.storage().nbytes()));
}

double Real(int64_t value) { return static_cast<double>(value); }

// Multiply-adds for each number of a convolution's result.
double TapsOf(const torch::Tensor& filters) { return Real(filters.numel()) / Real(filters.size(0)); }

// Two products forward; backward one to have the scores again, and two for the gradients of each.
double AttentionFlops(const torch::Tensor& queries, const torch::Tensor& keys, bool backward) {
  return (backward ? 10 : 4) * Real(queries.numel()) * Real(keys.size(2));
}

double TransformFlops(double transforms, double length) {
  return length < 2 ? 0 : transforms * 2.5 * length * std::log2(length);
}

}  // namespace

void ForTensors(c10::ArrayRef<const c10::IValue> values, const std::function<void(const torch::Tensor&)>& look) {
  for (const c10::IValue& value : values) {
    if (value.isTensor()) {
      if (value.toTensor().defined()) look(value.toTensor());
    } else if (value.isTensorList()) {
      for (const torch::Tensor& tensor : value.toTensorVector()) {
        if (tensor.defined()) look(tensor);
      }
    }
  }
}

OperatorWork::OperatorWork(const at::RecordFunction& op, bool bytes) {
  const auto in = op.inputs();
  if (bytes) {
    ForTensors(in, [&](const torch::Tensor& tensor) {
      read_ += BytesOf(tensor);
      storages_.push_back(StorageOf(tensor));
    });
  }
  const std::string_view name = op.name();
  const auto tensor = [&](size_t i) -> const torch::Tensor& { return in[i].toTensor(); };
  if (name == "aten::mm" || name == "aten::bmm") {
    per_result_ = 2 * Real(tensor(0).size(-1));
  } else if (name == "aten::addmm" || name == "aten::baddbmm") {
    per_result_ = 2 * Real(tensor(1).size(-1));
  } else if (name == "aten::convolution" || name == "aten::mkldnn_convolution") {
    per_result_ = 2 * TapsOf(tensor(1));
  } else if (name == "loupe::linear" || name == "loupe::convolution") {
    flops_ = 2 * Real(tensor(0).numel()) * Real(tensor(1).numel()) / Real(tensor(1).size(1));
  } else if (name == "loupe::linear_backward" || name == "loupe::convolution_backward") {
    flops_ = 2 * Real(tensor(0).numel()) * Real(tensor(1).numel()) / Real(tensor(1).size(0));
  } else if (name == "loupe::feed_forward") {
    flops_ = 2 * Real(tensor(0).numel()) / Real(tensor(1).size(1)) * Real(tensor(1).numel() + tensor(2).numel());
  } else if (name == "loupe::feed_forward_backward") {
    flops_ = 2 * Real(tensor(0).numel()) / Real(tensor(2).size(0)) * Real(tensor(1).numel() + tensor(2).numel());
  } else if (name == "loupe::attention") {
    flops_ = AttentionFlops(tensor(0), tensor(1), /*backward=*/false);
  } else if (name == "loupe::attention_backward") {
    flops_ = AttentionFlops(tensor(1), tensor(2), /*backward=*/true);
  } else if (name == "aten::convolution_backward") {
    const auto mask = in[in.size() - 1].toBoolList();
    flops_ = 2 * Real(tensor(0).numel()) * TapsOf(tensor(2)) * (int{mask[0]} + int{mask[1]});
  } else if (name.starts_with("aten::_scaled_dot_product_") && name != "aten::_scaled_dot_product_attention_math") {
    const size_t queries = name.ends_with("_backward") ? 1 : 0;
    flops_ = AttentionFlops(tensor(queries), tensor(queries + 1), queries == 1);
  } else if (name == "aten::_fft_r2c" || name == "aten::_fft_c2c") {
    const double length = Real(tensor(0).size(in[1].toIntList()[0]));
    flops_ = TransformFlops(Real(tensor(0).numel()) / length, length) * (name == "aten::_fft_c2c" ? 2 : 1);
  } else if (name == "aten::_fft_c2r") {
    flops_ = TransformFlops(Real(tensor(0).numel()) / Real(tensor(0).size(in[1].toIntList()[0])), Real(in[3].toInt()));
  }
}

double OperatorWork::Flops(const at::RecordFunction& op) const {
  if (per_result_ == 0) return flops_;
  const auto& results = op.outputs();
  return results.empty() || !results[0].isTensor() ? 0 : per_result_ * Real(results[0].toTensor().numel());
}

double OperatorWork::Bytes(const at::RecordFunction& op) const {
  const std::string_view name = op.name();
  if (name.starts_with("aten::empty") || name.starts_with("aten::new_empty")) return 0;
  double written = 0;
  bool view = !name.ends_with("_") && !op.outputs().empty();
  const c10::ArrayRef<const c10::IValue> results(op.outputs().data(), op.outputs().size());
  ForTensors(results, [&](const torch::Tensor& tensor) {
    written += BytesOf(tensor);
    view = view && std::find(storages_.begin(), storages_.end(), StorageOf(tensor)) != storages_.end();
  });
  if (view) return 0;
  // Of a table, only the rows that are asked for are read.
  return name == "aten::embedding" ? 2 * written : read_ + written;
}

}  // namespace loupe::worker::bench

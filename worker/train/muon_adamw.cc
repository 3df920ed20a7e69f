#include "worker/train/muon_adamw.h"

#include <torch/utils.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

namespace loupe::worker::train {

torch::Tensor Orthogonalised(const torch::Tensor& g, torch::ScalarType precision) {
  if (g.dim() == 2) return Orthogonalised(g.unsqueeze(0), precision).squeeze(0);
  const bool tall = g.size(1) > g.size(2);
  torch::Tensor x = tall ? g.mT() : g;
  x = (x / (x.flatten(1).norm(2, 1).view({-1, 1, 1}) + 1e-7)).to(precision).contiguous();
  for (int i = 0; i < 5; ++i) {
    const auto a = torch::bmm(x, x.mT());
    x = torch::baddbmm(x, torch::baddbmm(a, a, a, -4.7750, 2.0315), x, 3.4445, 1.0);
  }
  return (tall ? x.mT() : x).to(g.scalar_type());
}

bool MuonAdamW::TakesMuon(const std::string& name, const torch::Tensor& parameter) {
  if (parameter.dim() < 2) return false;
  // Tables, state spaces' values (each a number of its own), the ways in and out.
  for (const char* kept : {"embedding_table.", "ssm.forward.", "ssm.backward.", "pos_embed.", "x_embedder."}) {
    if (name.find(kept) != std::string::npos) return false;
  }
  for (const char* kept : {"embedding.", "conv_in.", "conv_out."}) {
    // A patch embedding is a first layer, like conv_in; a time embedding's two layers are ordinary matrices.
    if (name.find(kept) != std::string::npos && name.find("time_embedding") == std::string::npos) return false;
  }
  return true;
}

MuonAdamW::MuonAdamW(std::vector<SlotParameter> parameters, const MuonAdamWOptions& options)
    : Optimizer(std::move(parameters)), options_(options) {
  for (const SlotParameter& parameter : parameters_) {
    const torch::Tensor& p = parameter.value();
    moments_.push_back({torch::zeros_like(p), TakesMuon(parameter.name(), p) ? torch::Tensor() : torch::zeros_like(p)});
  }
}

torch::Tensor MuonAdamW::Apply(const torch::Tensor& skip) {
  TORCH_CHECK(!skip.defined(), "this optimiser skips no step");
  torch::NoGradGuard no_grad;
  std::map<std::pair<int64_t, int64_t>, Group> matrices;  // by the flattened shape
  Group decayed, plain;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const torch::Tensor& p = parameters_[i].value();
    const torch::Tensor gradient = parameters_[i].GradientInPlace();
    if (!gradient.defined()) continue;
    const ParameterMoments& moments = moments_[i];
    // Vectors and single numbers are norms' scales and biases, and so are a state space's: shrinking those would only
    // fight the data.
    const bool shrinks = p.dim() > 1 && parameters_[i].name().find("ssm.") == std::string::npos;
    Group& group = moments.muon() ? matrices[{p.size(0), p.numel() / p.size(0)}] : shrinks ? decayed : plain;
    group.parameters.push_back(p);
    group.gradients.push_back(gradient[0]);
    group.first.push_back(moments.first);
    if (!moments.muon()) group.second.push_back(moments.second);
  }
  for (auto& [shape, group] : matrices) MuonStep(group, rate_factor_);
  AdamStep(decayed, rate_factor_, options_.weight_decay);
  AdamStep(plain, rate_factor_, 0);
  return {};
}

void MuonAdamW::MuonStep(Group& group, double factor) const {
  at::_foreach_mul_(group.first, options_.muon_momentum);
  at::_foreach_add_(group.first, group.gradients);
  std::vector<torch::Tensor> ahead = at::_foreach_mul(group.first, options_.muon_momentum);
  at::_foreach_add_(ahead, group.gradients);
  for (torch::Tensor& matrix : ahead) matrix = matrix.flatten(1);
  const double rows = static_cast<double>(ahead[0].size(0)), columns = static_cast<double>(ahead[0].size(1));
  const double rate = options_.muon_rate * factor;
  const auto steps = Orthogonalised(torch::stack(ahead), options_.muon_precision).unbind(0);
  std::vector<torch::Tensor> shaped;
  for (size_t i = 0; i < steps.size(); ++i) shaped.push_back(steps[i].reshape(group.parameters[i].sizes()));
  at::_foreach_mul_(group.parameters, 1 - rate * options_.weight_decay / 10);
  at::_foreach_add_(group.parameters, shaped, -rate * std::sqrt(std::max(1.0, rows / columns)));
}

void MuonAdamW::AdamStep(Group& group, double factor, double decay) const {
  if (group.parameters.empty()) return;
  const double rate = options_.adam_rate * factor;
  const auto t = static_cast<double>(steps_ + 1);
  at::_foreach_mul_(group.first, options_.adam_beta1);
  at::_foreach_add_(group.first, group.gradients, 1 - options_.adam_beta1);
  at::_foreach_mul_(group.second, options_.adam_beta2);
  at::_foreach_addcmul_(group.second, group.gradients, group.gradients, 1 - options_.adam_beta2);
  if (decay != 0) at::_foreach_mul_(group.parameters, 1 - rate * decay);
  std::vector<torch::Tensor> spread = at::_foreach_div(group.second, 1 - std::pow(options_.adam_beta2, t));
  at::_foreach_sqrt_(spread);
  at::_foreach_add_(spread, 1e-8);
  at::_foreach_addcdiv_(group.parameters, group.first, spread, -rate / (1 - std::pow(options_.adam_beta1, t)));
}

std::vector<torch::Tensor> MuonAdamW::Moments() const {
  std::vector<torch::Tensor> all;
  for (const ParameterMoments& moments : moments_) {
    all.push_back(moments.first);
    if (!moments.muon()) all.push_back(moments.second);
  }
  return all;
}

TensorMap MuonAdamW::Export() const {
  TensorMap arrays;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const std::string& name = parameters_[i].name();
    const ParameterMoments& moments = moments_[i];
    arrays[name + (moments.muon() ? ".momentum" : ".exp_avg")] = moments.first.cpu();
    if (!moments.muon()) arrays[name + ".exp_avg_sq"] = moments.second.cpu();
  }
  return arrays;
}

void MuonAdamW::Import(const TensorMap& arrays, int64_t steps) {
  torch::NoGradGuard no_grad;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const std::string& name = parameters_[i].name();
    const ParameterMoments& moments = moments_[i];
    CopyInto(moments.first, arrays, name + (moments.muon() ? ".momentum" : ".exp_avg"));
    if (!moments.muon()) CopyInto(moments.second, arrays, name + ".exp_avg_sq");
  }
  steps_ = steps;
}

}  // namespace loupe::worker::train

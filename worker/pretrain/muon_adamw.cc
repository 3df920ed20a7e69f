#include "worker/pretrain/muon_adamw.h"

#include <torch/utils.h>

#include <algorithm>
#include <cmath>
#include <utility>

namespace loupe::worker {

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
  for (const char* kept : {"embedding.", "conv_in.", "conv_out."}) {
    // A patch embedding is a first layer, like conv_in; a time embedding's two layers are ordinary matrices.
    if (name.find(kept) != std::string::npos && name.find("time_embedding") == std::string::npos) return false;
  }
  return true;
}

MuonAdamW::MuonAdamW(const torch::nn::Module& network, const MuonAdamWOptions& options) : options_(options) {
  for (const auto& item : network.named_parameters()) {
    const torch::Tensor& p = item.value();
    const bool muon = TakesMuon(item.key(), p);
    slots_.push_back({item.key(), p, muon, torch::zeros_like(p, torch::requires_grad(false)),
                      muon ? torch::Tensor() : torch::zeros_like(p, torch::requires_grad(false))});
  }
}

void MuonAdamW::ZeroGrad() {
  for (Slot& slot : slots_) slot.parameter.mutable_grad().reset();
}

void MuonAdamW::Step(int64_t step, double factor) {
  torch::NoGradGuard no_grad;
  std::map<std::pair<int64_t, int64_t>, Group> matrices;  // by the flattened shape
  Group decayed, plain;
  for (const Slot& slot : slots_) {
    const torch::Tensor& p = slot.parameter;
    if (!p.grad().defined()) continue;
    // Vectors and single numbers are norms' scales and biases: shrinking those would only fight the data.
    Group& group = slot.muon ? matrices[{p.size(0), p.numel() / p.size(0)}] : p.dim() > 1 ? decayed : plain;
    group.parameters.push_back(p);
    group.gradients.push_back(p.grad());
    group.first.push_back(slot.first);
    if (!slot.muon) group.second.push_back(slot.second);
  }
  for (auto& [shape, group] : matrices) MuonStep(group, factor);
  AdamStep(decayed, step, factor, options_.weight_decay);
  AdamStep(plain, step, factor, 0);
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

void MuonAdamW::AdamStep(Group& group, int64_t step, double factor, double decay) const {
  if (group.parameters.empty()) return;
  const double rate = options_.adam_rate * factor;
  const double t = static_cast<double>(step + 1);
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

std::map<std::string, torch::Tensor> MuonAdamW::State() const {
  std::map<std::string, torch::Tensor> state;
  for (const Slot& slot : slots_) {
    state[(slot.muon ? "momentum." : "adam_first.") + slot.name] = slot.first;
    if (!slot.muon) state["adam_second." + slot.name] = slot.second;
  }
  return state;
}

}  // namespace loupe::worker

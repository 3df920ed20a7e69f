#include "worker/pretrain/muon_adamw.h"

#include <torch/utils.h>

#include <algorithm>
#include <cmath>

namespace loupe::worker {

torch::Tensor Orthogonalised(const torch::Tensor& g, torch::ScalarType precision) {
  const bool tall = g.size(0) > g.size(1);
  torch::Tensor x = tall ? g.t() : g;
  x = (x / (x.norm() + 1e-7)).to(precision).contiguous();
  for (int i = 0; i < 5; ++i) {
    const auto a = torch::mm(x, x.t());
    x = torch::addmm(x, torch::addmm(a, a, a, -4.7750, 2.0315), x, 3.4445, 1.0);
  }
  return (tall ? x.t() : x).to(g.scalar_type());
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
  for (Slot& slot : slots_) {
    if (!slot.parameter.grad().defined()) continue;
    slot.muon ? MuonStep(slot, factor) : AdamStep(slot, step, factor);
  }
}

void MuonAdamW::MuonStep(Slot& slot, double factor) const {
  const auto g = slot.parameter.grad();
  slot.first.mul_(options_.muon_momentum).add_(g);
  const auto ahead = g.add(slot.first, options_.muon_momentum).flatten(1);
  const double rows = static_cast<double>(ahead.size(0)), columns = static_cast<double>(ahead.size(1));
  const double rate = options_.muon_rate * factor;
  slot.parameter.mul_(1 - rate * options_.weight_decay / 10);
  slot.parameter.add_(Orthogonalised(ahead, options_.muon_precision).reshape(g.sizes()),
                      -rate * std::sqrt(std::max(1.0, rows / columns)));
}

void MuonAdamW::AdamStep(Slot& slot, int64_t step, double factor) const {
  const auto g = slot.parameter.grad();
  const double rate = options_.adam_rate * factor;
  const double t = static_cast<double>(step + 1);
  slot.first.mul_(options_.adam_beta1).add_(g, 1 - options_.adam_beta1);
  slot.second.mul_(options_.adam_beta2).addcmul_(g, g, 1 - options_.adam_beta2);
  // Vectors and single numbers are norms' scales and biases: shrinking those would only fight the data.
  if (slot.parameter.dim() >= 2) slot.parameter.mul_(1 - rate * options_.weight_decay);
  const auto spread = (slot.second / (1 - std::pow(options_.adam_beta2, t))).sqrt_().add_(1e-8);
  slot.parameter.addcdiv_(slot.first, spread, -rate / (1 - std::pow(options_.adam_beta1, t)));
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

#include "worker/runtime/recompute.h"

#include <ATen/autocast_mode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/utils.h>

#include <utility>

#include "worker/runtime/autocast_scope.h"

namespace loupe::worker::runtime {
namespace {

thread_local bool recompute_here = false;

// What the backward pass needs to run the block again.
struct Recipe : torch::CustomClassHolder {
  Recipe(BlockFunction block, const AutocastState& autocast) : block(std::move(block)), autocast(autocast) {}
  const BlockFunction block;
  const AutocastState autocast;
};

// A fresh leaf with the same value.
torch::Tensor LeafLike(const torch::Tensor& x) {
  if (!x.defined()) return x;
  return x.detach().set_requires_grad(x.requires_grad());
}

struct RecomputeFunction : torch::autograd::Function<RecomputeFunction> {
  // `anchor` requires a gradient, so that the block is visited on the way back even where only parameters inside it do.
  static torch::Tensor forward(torch::autograd::AutogradContext* ctx, const torch::Tensor& /*anchor*/,
                               const torch::Tensor& x, const torch::Tensor& condition,
                               const c10::intrusive_ptr<Recipe>& recipe) {
    ctx->save_for_backward({x, condition});
    ctx->saved_data["recipe"] = c10::IValue::make_capsule(recipe);
    return recipe->block(x, condition);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 const torch::autograd::variable_list& gradients) {
    const auto capsule = ctx->saved_data["recipe"].toCapsule();
    const auto& recipe = static_cast<const Recipe&>(*capsule);
    const auto saved = ctx->get_saved_variables();
    const torch::Tensor x = LeafLike(saved[0]), condition = LeafLike(saved[1]);
    {
      const torch::AutoGradMode with_gradients(true);
      const AutocastScope as_before(recipe.autocast);
      // Inside, blocks are not split further.
      const RecomputeScope off(false);
      const torch::Tensor again = recipe.block(x, condition);
      // Blocks with nothing to train in them, before the first that has, end here.
      if (again.requires_grad()) torch::autograd::backward({again}, {gradients[0]});
    }
    return {torch::Tensor(), x.grad(), condition.defined() ? condition.grad() : torch::Tensor(), torch::Tensor()};
  }
};

}  // namespace

RecomputeScope::RecomputeScope(bool on) : before_(std::exchange(recompute_here, on)) {}
RecomputeScope::~RecomputeScope() { recompute_here = before_; }

torch::Tensor Recomputed(const BlockFunction& block, const torch::Tensor& x, const torch::Tensor& condition) {
  if (!recompute_here || !torch::GradMode::is_enabled()) return block(x, condition);
  const auto anchor = torch::empty({0}, x.options()).set_requires_grad(true);
  return RecomputeFunction::apply(anchor, x, condition,
                                  c10::make_intrusive<Recipe>(block, AutocastState::Now(x.device().type())));
}

}  // namespace loupe::worker::runtime

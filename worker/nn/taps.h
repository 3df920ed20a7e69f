// Taps: the named positions of a block where a tuning method may read and write, without the network knowing the
// method.
//
// A tappable block (BasicTransformerBlock, ResnetBlock2D) owns one TapSlot. In each forward it shows the tensor at
// every tap, in the order below, and goes on with the tensor it gets back:
//
//   transformer block                                residual block
//     x = SA_in(x)                                     x = Res_in(x)          (what norm1 and the skip both see)
//     x = x + SA_out(attn1(norm1(x)))                  x = skip(x) + h(x, time)
//     x = CA_in(x);  c = CA_c(context)                 x = Res_out(x)
//     x = x + CA_out(attn2(norm2(x), c))
//     x = FFN_in(x)
//     x = x + FFN_out(ff(norm3(x)))
//     x = Trans_out(x)
//
// (the positions of "A Closer Look at Parameter-Efficient Tuning in Diffusion Models", arXiv 2303.18181). An adapter
// that reads at one tap and adds at a later one keeps what it read in its BlockPass, which lives for one forward of one
// block: nothing is shared between forwards, so a block may be recomputed (gradient checkpointing) or run from two
// threads.
#pragma once

#include <torch/types.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/positions.h"
#include "worker/nn/pack_slot.h"

namespace loupe::worker::nn {

enum class BlockKind { kTransformer, kResidual };

// The taps are the paper's positions, in the order in which a block's forward passes them.
using Tap = Position;

// Tokens that a method keeps in front of a transformer block's stream while the block runs.
struct PrefixTokens {
  int64_t count = 0;
  // [K, count, d]: put there when the block begins. Undefined: the block before, of the same stack, left them there.
  torch::Tensor values;
  // They are still there when the block ends: the next block of its stack goes on with them.
  bool stay = false;
};

// One forward through one block. Used by one thread; destroyed when the block's forward returns.
class BlockPass {
 public:
  virtual ~BlockPass() = default;

  // `x` is the tensor at `tap`; returns the tensor the block goes on with (of the same shape and dtype; `x` itself
  // where the method has nothing to do). Must not write into `x` in place. Transformer taps: [N, tokens, d] (CaC: [N,
  // text tokens, context width]); residual taps: [N, C, H, W]. N = K·B for the method's K slots, trial-major.
  virtual torch::Tensor At(Tap tap, const torch::Tensor& x) = 0;

  // nullptr: none. The rows of all slots of a pack must have as many tokens, so either every slot of it has such a
  // method, with as many, or none has. Taps see the prefix as part of the stream.
  virtual const PrefixTokens* Prefix() const { return nullptr; }
};

// What a method puts into a slot: makes a BlockPass per forward. Begin() is called once for every forward of the block,
// recomputation included, perhaps from several threads at a time.
class BlockTaps {
 public:
  virtual ~BlockTaps() = default;
  virtual std::unique_ptr<BlockPass> Begin() = 0;
};

// A block's place for methods, each for its slots.
using TapSlot = PackSlot<BlockTaps>;

// The block's side: one on the stack per forward. Costs one test per tap when the slot is empty. Each method sees and
// returns the rows of its own slots; those of slots without one go on as they are.
class TapPass {
 public:
  explicit TapPass(const TapSlot& slot) {
    for (const TapSlot::Entry& entry : slot.entries()) passes_.push_back({entry.range, entry.part->Begin()});
  }

  torch::Tensor operator()(Tap tap, const torch::Tensor& x) const { return passes_.empty() ? x : At(tap, x); }

  // Of a transformer block: its stream [N, tokens, d] with the methods' prefix in front of it, before anything else;
  // and what it gives back, without. Throws c10::Error where the slots of a pack do not have as many tokens.
  torch::Tensor WithPrefix(const torch::Tensor& x) const { return passes_.empty() ? x : Prefixed(x); }
  torch::Tensor WithoutPrefix(const torch::Tensor& x) const { return passes_.empty() ? x : Stripped(x); }

 private:
  struct SlotsPass {
    SlotRange range;
    std::unique_ptr<BlockPass> pass;
  };
  torch::Tensor At(Tap tap, const torch::Tensor& x) const;
  const PrefixTokens* Prefix() const;
  torch::Tensor Prefixed(const torch::Tensor& x) const;
  torch::Tensor Stripped(const torch::Tensor& x) const;

  std::vector<SlotsPass> passes_;  // by first slot
};

// What a method must know of a block to size its parameters and to attach.
struct TappableBlock {
  std::string name;  // the module's name in the checkpoint: "down_blocks.0.attentions.0.transformer_blocks.0"
  BlockKind kind;
  int64_t in_width;         // transformer: d of the token stream; residual: C_in (at Res_in)
  int64_t out_width;        // transformer: d again; residual: C_out (at Res_out)
  int64_t context_width;    // transformer: width of CA_c; residual: 0
  int64_t norm_num_groups;  // groups of the network's own GroupNorm; they divide every C of its residual blocks
  TapSlot* slot;            // owned by the block; lives as long as the network
  // Of its kind's taps, those that it does not have: a block without cross-attention has no CA_in, CA_c and CA_out.
  std::vector<Tap> missing = {};
  // Whether it takes tokens in front of its stream (TapPass::WithPrefix).
  bool takes_prefix = false;

  bool Has(Tap tap) const { return std::find(missing.begin(), missing.end(), tap) == missing.end(); }
};

}  // namespace loupe::worker::nn

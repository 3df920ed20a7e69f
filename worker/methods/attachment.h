// A method's parts in the slots of the networks.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "worker/nn/tuning_sites.h"

namespace loupe::worker::methods {

// What is added is attached at once, and taken away when this is destroyed: also where a method's construction ends in
// an exception. Not thread-safe; the networks must outlive it.
class Attachment {
 public:
  explicit Attachment(const nn::SlotRange& range) : range_(range) {}
  ~Attachment() { SetEnabled(false); }
  Attachment(const Attachment&) = delete;
  Attachment& operator=(const Attachment&) = delete;

  // Throw c10::Error naming the place when it is taken.
  void Add(const nn::TappableBlock& block, std::shared_ptr<nn::BlockTaps> taps) {
    taps_.push_back({block.name, block.slot, std::move(taps)});
    Attach(taps_.back());
  }
  void Add(const nn::LayerSite& site, std::shared_ptr<const nn::LayerHook> hook) {
    hooks_.push_back({site.name, &site.layer->slot, std::move(hook)});
    Attach(hooks_.back());
  }

  void Add(nn::PromptSite& site, std::shared_ptr<const io::ClipTokenizer> tokenizer) {
    tokenizers_.push_back({"prompts", &site.slot, std::move(tokenizer)});
    Attach(tokenizers_.back());
  }

  void SetEnabled(bool enabled) {
    if (enabled == enabled_) return;
    enabled_ = enabled;
    for (const auto& part : taps_) enabled ? Attach(part) : part.slot->Detach(part.part.get());
    for (const auto& part : hooks_) enabled ? Attach(part) : part.slot->Detach(part.part.get());
    for (const auto& part : tokenizers_) enabled ? Attach(part) : part.slot->Detach(part.part.get());
  }

 private:
  template <typename Part>
  struct Placed {
    std::string name;
    nn::PackSlot<Part>* slot;
    std::shared_ptr<Part> part;
  };
  template <typename Part>
  void Attach(const Placed<Part>& placed) {
    TORCH_CHECK(placed.slot->Attach(range_, placed.part), placed.name, ": another method is attached here");
  }

  const nn::SlotRange range_;
  bool enabled_ = true;
  std::vector<Placed<nn::BlockTaps>> taps_;
  std::vector<Placed<const nn::LayerHook>> hooks_;
  std::vector<Placed<const io::ClipTokenizer>> tokenizers_;
};

}  // namespace loupe::worker::methods

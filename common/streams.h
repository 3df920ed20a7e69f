// The random streams of a trial, by name. Each is seeded from the sweep's seed, the replicate and its own name
// (seed.h), never from the cell: all cells of a replicate meet the same numbers. The names are part of the format of
// results (provenance "seed.{name}", docs/formats.md): do not rename, and do not reuse one for another purpose.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "common/seed.h"

namespace loupe {

enum class Stream {
  kAdapterInit,
  kInstanceOrder,
  kClassOrder,
  kFlips,
  kNoise,
  kTimesteps,
  kSampleLatents,
  kPriorLatents,
  kCaptionDropout,
  kSampleCaptions,
  kValidation,
  kNoiseDifference,
  kClassPictures,
};

struct StreamEntry {
  Stream stream;
  std::string_view name;
  std::string_view purpose;
  // One for the whole sweep: its replicate is 0 whatever the trial's is.
  bool of_the_sweep = false;
};

// In the enumeration's order.
inline constexpr std::array kStreams = {
    StreamEntry{Stream::kAdapterInit, "adapter-init", "the method's initial values, and its dropout"},
    StreamEntry{Stream::kInstanceOrder, "instance-order", "the order of the training pictures"},
    StreamEntry{Stream::kClassOrder, "class-order", "DreamBooth: the order of the class pictures"},
    StreamEntry{Stream::kFlips, "flips", "which training pictures are mirrored"},
    StreamEntry{Stream::kNoise, "noise", "the noise that training adds"},
    StreamEntry{Stream::kTimesteps, "timesteps", "how much of it"},
    StreamEntry{Stream::kSampleLatents, "sample-latents", "the noise that scored pictures begin with"},
    StreamEntry{Stream::kPriorLatents, "prior-latents", "DreamBooth: the same for the class prompt's pictures"},
    StreamEntry{Stream::kCaptionDropout, "caption-dropout", "fine-tuning: which captions are left out"},
    StreamEntry{Stream::kSampleCaptions, "sample-captions", "fine-tuning: which captions are sampled"},
    StreamEntry{Stream::kValidation, "validation", "noise and timesteps of the validation loss's rows"},
    StreamEntry{Stream::kNoiseDifference, "noise-difference", "DreamBooth: the noise of the prediction difference"},
    StreamEntry{Stream::kClassPictures, "class-pictures", "DreamBooth: the noise that class pictures begin with", true},
};

constexpr const StreamEntry& EntryOf(Stream stream) { return kStreams[static_cast<size_t>(stream)]; }

// A trial's streams.
struct TrialSeeds {
  uint64_t sweep_seed = 0;
  int64_t replicate = 0;

  uint64_t operator()(Stream stream) const {
    const StreamEntry& entry = EntryOf(stream);
    return DeriveSeed(sweep_seed, entry.of_the_sweep ? 0 : replicate, entry.name);
  }
};

}  // namespace loupe

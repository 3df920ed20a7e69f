// Seeds of a trial's random streams.
//
// Every stream (adapter init, data order, noise, timesteps, sampling latents, …) has its own seed, derived from the
// sweep's seed and the replicate but NOT from the cell: all cells of a replicate see the same noise, so that cells are
// compared under common random numbers and the replicate is a block in the analysis.
#pragma once

#include <cstdint>
#include <string_view>

namespace loupe {

// The first 8 bytes (big-endian) of SHA-256("loupe-seed-v1\n{sweep_seed}\n{replicate}\n{stream}"), the top bit cleared
// so that it also fits int64. Stable for ever: results are compared across versions.
uint64_t DeriveSeed(uint64_t sweep_seed, int64_t replicate, std::string_view stream);

}  // namespace loupe

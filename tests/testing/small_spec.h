// A sweep that needs no files: for tests that run it on fakes.
#pragma once

#include "loupe/v1/sweep.pb.h"

namespace loupe::testing {

// Valid: 3 inputs × `scales` scales, `replicates` replicates, seed 7, a back-off of a millisecond.
v1::SweepSpec SmallSpec(int scales, int replicates);

}  // namespace loupe::testing

// The in/out adapter of "A Closer Look at Parameter-Efficient Tuning in Diffusion Models" (arXiv 2303.18181 §3): one
// bottleneck per block that reads at one position and adds s·A(·) at the same or a later one.
//
//   x_output ← x_output + s·A(x_input)
//
// Context adapters (CA_c) sit in transformer blocks; residual adapters (Res_in, Res_out) use the picture form of the
// bottleneck with GroupNorm of 32 groups, as in the paper's code, or as many as the base's own GroupNorms have where 32
// does not divide the channels.
#pragma once

#include <memory>
#include <vector>

#include "worker/methods/method.h"

namespace loupe::worker::methods {

// Slots may sit at different positions with different activations, scales and widths: neighbours that agree in all but
// the scale are computed together. Reads method.{input, output, activation, scale, width | parameters, init}.
MethodMaker MakeInOutAdapter;

}  // namespace loupe::worker::methods

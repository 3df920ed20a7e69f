// An adapter as part of the base's own weights, where that is exact: a linear adapter (identity activation) beside a
// linear layer of the network is one linear layer.
//
// With s·A(x) = s(U(Dx + b_d) + b_u), M = I + s·U·D and c = s(U·b_d + b_u), x + s·A(x) = Mx + c, so
//
//   SA_in → SA_in         proj_in          W ← MW,   b ← Mb + c      (blocks that follow proj_in: the first of a
//   transformer) SA_out → CA_in        attn1.to_out.0   W ← MW,   b ← Mb + c CA_c → CA_c           attn2.to_k       W ←
//   WM    (W·c moves all of a row's scores alike: the softmax does not see it)
//                         attn2.to_v       W ← WM;   attn2.to_out.0: b ← b + W_out·W_v·c (attention's weights sum to 1)
//   CA_out → FFN_in       attn2.to_out.0   W ← MW,   b ← Mb + c
//   FFN_out → Trans_out   ff.net.2         W ← MW,   b ← Mb + c
//   Trans_out → Trans_out proj_out         W ← WM,   b ← b + W·c     (blocks that proj_out follows: the last of a
//   transformer)
//
// All other cells read and write on both sides of a norm, an attention or a sum of branches, or have an activation: no
// weights of the base equal them.
#pragma once

#include <torch/types.h>

#include <map>
#include <string>

#include "absl/status/status.h"
#include "worker/methods/files/adapter_file.h"

namespace loupe::worker::methods {

// The UNet's weights by checkpoint name with the adapter folded in: the arrays it touches are replaced by new ones of
// the same dtype (computed in float64), the others are left as they are. INVALID_ARGUMENT says why this cell cannot be
// folded, or which of the adapter's arrays does not fit the base; then `weights` is as it was.
absl::Status FoldAdapter(const files::AdapterFile& adapter, std::map<std::string, torch::Tensor>& weights);

}  // namespace loupe::worker::methods

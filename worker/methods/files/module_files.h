// An adapter in the layout of the paper's own code (github.com/Xiang-cd/unet-finetune): one torch.save file per module,
// named by the module in the original Stable Diffusion code.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "worker/methods/files/adapter_file.h"

namespace loupe::worker::methods::files {

// Files of `folder` (which must exist), one per block:
//   input_blocks.1.1.transformer_blocks.0.adapter_inout.pt    adp.0.weight, adp.0.bias, adp.2.weight, adp.2.bias
//   input_blocks.1.0.adapter.pt                               0.* (GroupNorm), 2.* and 4.* (convolutions)
// each a dictionary of float32 tensors (io/torch_archive.h). The layout holds no positions, activation or scale: its
// reader takes them from a configuration. `resnets_per_level`: the UNet's layers_per_block, which the original names
// count by. INVALID_ARGUMENT when a block has no name there; errors of writing as WriteFileAtomically.
absl::Status WriteModuleFiles(const std::string& folder, const AdapterFile& file, int64_t resnets_per_level);

// "input_blocks.1.1.transformer_blocks.0" for "down_blocks.0.attentions.0.transformer_blocks.0"; empty when there is
// none.
std::string OriginalModuleName(const std::string& name, int64_t resnets_per_level);

}  // namespace loupe::worker::methods::files

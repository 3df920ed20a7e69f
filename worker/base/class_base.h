// Bases whose prompts are classes: DiT and DiffuSSM as denoisers, and the classes' names as a conditioner.
#pragma once

#include <memory>

#include "worker/base/denoiser.h"
#include "worker/io/base_folder.h"
#include "worker/models/diffussm.h"
#include "worker/models/dit.h"

namespace loupe::worker::base {

// A condition is the class's number, int64 [N, 1]. Both share the network that they are given. `positions`: of latents
// of another size than the trained one.
std::shared_ptr<Denoiser> MakeDiTDenoiser(models::DiTTransformer2DModel dit,
                                          nn::PositionScaling positions = nn::PositionScaling::kTrainedRange);
std::shared_ptr<Denoiser> MakeDiffuSSMDenoiser(models::DiffuSSMModel ssm,
                                               nn::PositionScaling positions = nn::PositionScaling::kTrainedRange);

// Prompts as ClassNames::Find takes them; Encode and Ids throw UserError with its sentence. It has no weights: the
// table of classes is the denoiser's.
std::shared_ptr<Conditioner> MakeClassConditioner(io::ClassNames names, const std::string& folder);

}  // namespace loupe::worker::base

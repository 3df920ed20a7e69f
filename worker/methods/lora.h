// Low-rank adaptation (Hu et al. 2021, arXiv 2106.09685): beside a layer's weight W stands B·A of rank r.
//
//   linear layer:  y = W x + b + s·B(A(dropout(x)))            A: [r, in],       B: [out, r]
//   convolution:   the same with A: [r, in, k, k] of the layer's stride and padding, and B: [out, r, 1, 1]
//
// with s = alpha/r, or alpha/√r (rsLoRA, arXiv 2312.03732). A is drawn from U(±1/√fan_in), which is kaiming_uniform
// with a = √5, and B is 0: training starts from the untouched base. DoRA (arXiv 2402.09353) trains each output's norm m
// beside the direction: y = (m/‖W + s·BA‖)·(W + s·BA) x + b, with the norm taken as a constant by the gradient (§4.3
// there). Names, initial values and arithmetic are those of the peft library.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "worker/methods/files/lora_files.h"
#include "worker/methods/method.h"

namespace loupe::worker::methods {

// Slots may differ in everything; neighbours whose ranks agree at a layer are computed together there. Reads
// method.{rank, alpha, dropout, targets, rslora, dora, text_encoder}.
MethodMaker MakeLora;

// One slot with the layers, ranks, scales and values of a file. Throws c10::Error naming a layer that the base does not
// have, or whose shape does not fit it. The slot is `range.first`, of one.
std::unique_ptr<Method> MakeLoraOf(const files::LoraFile& file, const nn::TuningSites& sites,
                                   const nn::SlotRange& range, torch::Device device);

// What a slot's exported arrays are, with the settings' scale: for the files of other programs. Throws c10::Error when
// they are no LoRA's.
files::LoraFile LoraFileOf(const std::map<std::string, torch::Tensor>& arrays, const settings::Settings& settings);

}  // namespace loupe::worker::methods

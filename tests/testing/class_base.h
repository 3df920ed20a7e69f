// A small class-conditional base with random weights, as a folder: the built-in base's autoencoder, and a DiT or a
// DiffuSSM that fits it.
#pragma once

#include <torch/types.h>
#include <torch/utils.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>

#include "worker/io/base_folder.h"
#include "worker/io/safetensors.h"
#include "worker/models/diffussm.h"
#include "worker/models/dit.h"
#include "worker/models/weights.h"

namespace loupe::worker {

// `labels`: id2label's JSON. Precondition: the working directory is the repository.
inline void WriteClassBase(const std::string& folder, io::BaseKind kind, const std::string& labels, int64_t classes) {
  namespace fs = std::filesystem;
  const bool dit = kind == io::BaseKind::kDiT;
  const std::string own = folder + "/" + std::string(io::DenoiserFolder(kind));
  fs::create_directories(own);
  fs::copy("configs/bases/emoji-sd/vae", folder + "/vae", fs::copy_options::recursive);
  fs::copy("configs/bases/emoji-sd/scheduler", folder + "/scheduler", fs::copy_options::recursive);
  std::ofstream(folder + "/model_index.json")
      << "{\"" << io::DenoiserFolder(kind) << "\": [\"\", \"\"], \"id2label\": " << labels << "}";
  std::ofstream(own + "/config.json")
      << (dit ? "{\"num_attention_heads\": 2, \"attention_head_dim\": 8, \"num_layers\": 2, \"sample_size\": 16, "
                "\"out_channels\": 8, \"num_embeds_ada_norm\": "
              : "{\"hidden_size\": 16, \"num_layers\": 2, \"sample_size\": 16, \"state_size\": 4, \"num_classes\": ")
      << classes << "}";
  std::shared_ptr<torch::nn::Module> network;
  if (dit) {
    network = models::DiTTransformer2DModel(*models::DiTConfig::Read(own + "/config.json")).ptr();
  } else {
    network = models::DiffuSSMModel(*models::DiffuSSMConfig::Read(own + "/config.json")).ptr();
  }
  nn::InitialiseAsTorch(*network, at::make_generator<at::CPUGeneratorImpl>(uint64_t{11}));
  std::map<std::string, torch::Tensor> weights;
  for (const auto& item : network->named_parameters()) weights[item.key()] = item.value();
  const models::TensorArrays arrays = models::ToArrays(weights);
  const auto status =
      io::WriteSafetensors(own + "/diffusion_pytorch_model.safetensors", arrays.views, {{"format", "pt"}});
  TORCH_CHECK(status.ok(), status.ToString());
}

}  // namespace loupe::worker

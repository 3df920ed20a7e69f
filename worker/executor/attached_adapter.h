// Trained values put onto a loaded base: what the commands for looking inside share.
#pragma once

#include <memory>
#include <string>

#include "worker/base/model_store.h"
#include "worker/methods/method.h"
#include "worker/methods/tuned_file.h"
#include "worker/nn/tuning_sites.h"

namespace loupe::worker::executor {

// All places of a base where methods can act.
nn::TuningSites SitesOf(base::BaseModel& base);

struct AttachedAdapter {
  methods::TunedFile file;
  std::unique_ptr<methods::Method> method;  // attached to the base, which must outlive it
};

// Reads and attaches a trial's adapter file, or another program's LoRA, embedding or hypernetwork (tuned_file.h). A
// warning is logged when a trial's was trained on another base. Throws UserError or c10::Error naming what does not
// fit.
AttachedAdapter AttachAdapterFile(const std::string& path, base::LoadedModel<base::BaseModel>& base,
                                  torch::Device device);

// A base loaded for one command, with the adapter on it that the command names, if any.
struct OpenedBase {
  // `device` as ParseDevice reads it; `threads` 0 leaves LibTorch's number; `adapter_path` "" attaches none. Throws as
  // AttachAdapterFile does.
  OpenedBase(const std::string& folder, const std::string& adapter_path, const std::string& device, int threads);

  base::ModelStore models;
  base::LoadedModel<base::BaseModel>& base;  // in `models`
  AttachedAdapter adapter;                   // its method is null without one
};

}  // namespace loupe::worker::executor

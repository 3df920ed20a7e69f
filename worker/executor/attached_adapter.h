// Trained values put onto a loaded base: what the commands for looking inside share.
#pragma once

#include <memory>
#include <optional>

#include "worker/base/model_store.h"
#include "worker/methods/files/adapter_file.h"
#include "worker/methods/files/lora_files.h"
#include "worker/methods/method.h"
#include "worker/methods/method_registry.h"

namespace loupe::worker {

struct AttachedAdapter {
  // A trial's; of another program's file only the values are known, and the settings are none.
  AdapterFile file;
  // Of a LoRA, a trial's or another program's.
  std::optional<LoraFile> lora;
  const MethodTraits* traits = nullptr;
  std::unique_ptr<Method> method;  // attached to the base, which must outlive it
};

// Reads and attaches a trial's adapter file, or another program's LoRA (lora_files.h: a file, or a folder of peft's). A
// warning is logged when a trial's was trained on another base. Throws UserError or c10::Error naming what does not
// fit.
AttachedAdapter AttachAdapterFile(const std::string& path, LoadedModel<BaseModel>& base, torch::Device device);

// A base loaded for one command, with the adapter on it that the command names, if any.
struct OpenedBase {
  // `device` as ParseDevice reads it; `threads` 0 leaves LibTorch's number; `adapter_path` "" attaches none. Throws as
  // AttachAdapterFile does.
  OpenedBase(const std::string& folder, const std::string& adapter_path, const std::string& device, int threads);

  ModelStore models;
  LoadedModel<BaseModel>& base;  // in `models`
  AttachedAdapter adapter;       // its method is null without one
};

}  // namespace loupe::worker

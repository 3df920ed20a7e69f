// The layouts in which `loupe-worker export` writes a method's values. No LibTorch in this header.
#pragma once

#include <array>
#include <string_view>

namespace loupe::worker::methods {

enum class ExportLayout { kMerged, kBundle, kModules, kDiffusers, kPeft, kKohya, kA1111 };

struct ExportLayoutName {
  ExportLayout layout;
  std::string_view name;         // as --as has it
  std::string_view description;  // of the folder
};

inline constexpr std::array<ExportLayoutName, 7> kExportLayouts = {{
    {ExportLayout::kMerged, "merged", "a diffusers folder whose weights hold the tuned ones"},
    {ExportLayout::kBundle, "bundle", "the base's folder with adapter.safetensors in it"},
    {ExportLayout::kModules, "modules", "an adapter's .pt file per module, as the paper's code reads them"},
    {ExportLayout::kDiffusers, "diffusers",
     "a LoRA's pytorch_lora_weights.safetensors, an embedding's learned_embeds.safetensors"},
    {ExportLayout::kPeft, "peft", "a LoRA's adapter_model.safetensors and adapter_config.json"},
    {ExportLayout::kKohya, "kohya", "a LoRA's or embedding's .safetensors with the names of kohya's scripts"},
    {ExportLayout::kA1111, "a1111", "an embedding's or hypernetwork's .pt file for AUTOMATIC1111's web UI"},
}};

// Whether it is a file of values alone, which needs no base to be written.
constexpr bool IsFileForm(ExportLayout layout) {
  return layout == ExportLayout::kDiffusers || layout == ExportLayout::kPeft || layout == ExportLayout::kKohya ||
         layout == ExportLayout::kA1111;
}

}  // namespace loupe::worker::methods

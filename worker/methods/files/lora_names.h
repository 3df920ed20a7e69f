// What programs call a LoRA's arrays: "{layer}{ending}".
#pragma once

#include <algorithm>
#include <iterator>
#include <string_view>
#include <utility>

namespace loupe::worker::methods::files {

enum class LoraRole { kA, kB, kMagnitude, kAlpha };

inline constexpr std::pair<std::string_view, LoraRole> kLoraEndings[] = {
    {".lora_A.weight", LoraRole::kA},  // peft; diffusers today
    {".lora_B.weight", LoraRole::kB},
    {".lora.down.weight", LoraRole::kA},  // diffusers 0.18 … 0.3x, UNet
    {".lora.up.weight", LoraRole::kB},
    {".lora_linear_layer.down.weight", LoraRole::kA},  // text encoder
    {".lora_linear_layer.up.weight", LoraRole::kB},
    {".lora_down.weight", LoraRole::kA},  // kohya
    {".lora_up.weight", LoraRole::kB},
    {"_lora.down.weight", LoraRole::kA},  // diffusers' attention processors: ".processor.to_q_lora.down.weight"
    {"_lora.up.weight", LoraRole::kB},
    {".lora_magnitude_vector", LoraRole::kMagnitude},
    {".lora_magnitude_vector.weight", LoraRole::kMagnitude},
    {".dora_scale", LoraRole::kMagnitude},  // LyCORIS
    {".alpha", LoraRole::kAlpha},
};

// nullptr where the name is no LoRA's.
inline const std::pair<std::string_view, LoraRole>* FindLoraEnding(std::string_view name) {
  const auto* const found = std::find_if(std::begin(kLoraEndings), std::end(kLoraEndings),
                                         [&](const auto& entry) { return name.ends_with(entry.first); });
  return found == std::end(kLoraEndings) ? nullptr : found;
}

// What other tools keep under the same kinds of names.
inline constexpr std::pair<std::string_view, std::string_view> kOtherKinds[] = {
    {".hada_", "a LoHa"},
    {".lokr_", "a LoKr"},
    {".lora_mid", "a LoRA with a middle factor (Tucker)"},
    {".oft_", "an OFT"},
    {".on_input", "an IA3"},
    {"lora_embedding_", "a LoRA of an embedding"},
    {".diff", "a difference of weights"}};

// Empty for none of them.
inline std::string_view OtherKindOf(std::string_view name) {
  for (const auto& [part, kind] : kOtherKinds) {
    if (name.find(part) != std::string_view::npos) return kind;
  }
  return "";
}

}  // namespace loupe::worker::methods::files

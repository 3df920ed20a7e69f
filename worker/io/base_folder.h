// What kind of base a folder holds, by its model_index.json and the folders in it. No LibTorch, so that a plan can say
// it too.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/positions.h"

namespace loupe::worker::io {

enum class BaseKind {
  kUNet,      // unet/, text_encoder/, tokenizer/: Stable Diffusion, prompts are texts
  kDiT,       // transformer/: DiT, prompts are classes
  kDiffuSSM,  // ssm/: DiffuSSM, prompts are classes
};

inline constexpr BaseKind kBaseKinds[] = {BaseKind::kUNet, BaseKind::kDiT, BaseKind::kDiffuSSM};

// "UNet", "DiT", "DiffuSSM".
std::string_view BaseKindName(BaseKind kind);
// The denoiser's own folder: "unet", "transformer", "ssm".
std::string_view DenoiserFolder(BaseKind kind);
// Its _class_name, as diffusers calls it: "UNet2DConditionModel".
std::string_view DenoiserClass(BaseKind kind);

// By the components that model_index.json names, or where there is none by what is there; a folder with nothing of the
// sort counts as a UNet's, whose loading says what is missing. INVALID_ARGUMENT from a model_index.json that is no
// JSON.
absl::StatusOr<BaseKind> BaseKindOf(const std::string& folder);

// The positions of an adapter (common/positions.h) that blocks of this kind do not have.
const std::vector<Position>& MissingPositions(BaseKind kind);

// What the classes of a class-conditional base are called. Immutable.
class ClassNames {
 public:
  // From model_index.json's "id2label", as DiTPipeline has it: {"0": "tench, Tinca tinca", …}, names of one class
  // separated by commas. Empty where there is none. A name that two have means the first. INVALID_ARGUMENT names the
  // file and the key that is no class of 0 … classes − 1.
  static absl::StatusOr<ClassNames> Read(const std::string& folder, int64_t classes);

  int64_t classes() const { return classes_; }
  // The class's first name, or its number.
  std::string NameOf(int64_t id) const;

  // The class that `prompt` means: a number, or one of the names (letter case aside); `classes()`, the null class of
  // guidance, for an empty prompt. A base of one class is unconditional: there an empty prompt is that class.
  // INVALID_ARGUMENT says which classes there are, and the nearest name.
  absl::StatusOr<int64_t> Find(std::string_view prompt) const;

 private:
  int64_t classes_ = 0;
  std::map<int64_t, std::string> first_name_;
  std::map<std::string, int64_t> by_name_;  // in lower case
};

}  // namespace loupe::worker::io

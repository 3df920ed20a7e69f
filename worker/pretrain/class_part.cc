#include "worker/pretrain/class_part.h"

#include <torch/utils.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <system_error>
#include <utility>

#include "common/atomic_file.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "nlohmann/json.hpp"
#include "worker/base/class_base.h"
#include "worker/pretrain/initial_weights.h"
#include "worker/pretrain/model_folder.h"
#include "worker/pretrain/pictures.h"
#include "worker/pretrain/sheet.h"
#include "worker/pretrain/step_draws.h"
#include "worker/sampling/sampler.h"

namespace loupe::worker::pretrain {
namespace {

using OrderedJson = nlohmann::ordered_json;

constexpr char kLoupe[] = "loupe";

absl::Status WriteJson(const std::string& path, const OrderedJson& json) {
  std::error_code error;
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(), error);
  return WriteFileAtomically(path, json.dump(2) + "\n");
}

// diffusers' DiTTransformer2DModel.
OrderedJson ConfigJson(const models::DiTConfig& c) {
  return {{"_class_name", "DiTTransformer2DModel"},
          {"_diffusers_version", kDiffusersVersion},
          {"activation_fn", "gelu-approximate"},
          {"attention_bias", true},
          {"attention_head_dim", c.head_width},
          {"dropout", 0.0},
          {"in_channels", c.in_channels},
          {"norm_elementwise_affine", false},
          {"norm_eps", c.norm_eps},
          {"norm_num_groups", 32},
          {"norm_type", "ada_norm_zero"},
          {"num_attention_heads", c.heads},
          {"num_embeds_ada_norm", c.classes},
          {"num_layers", c.layers},
          {"out_channels", c.out_channels},
          {"patch_size", c.patch_size},
          {"sample_size", c.sample_size},
          {"upcast_attention", false}};
}

// models/diffussm.h.
OrderedJson ConfigJson(const models::DiffuSSMConfig& c) {
  return {{"_class_name", "DiffuSSMModel"},
          {"activation", c.silu ? "silu" : "gelu"},
          {"discretisation", c.discretisation == nn::Discretisation::kBilinear ? "bilinear" : "zoh"},
          {"hidden_size", c.width},
          {"hourglass", c.hourglass},
          {"in_channels", c.in_channels},
          {"modulation", c.gated ? "shift-scale-gate" : "shift-scale"},
          {"num_classes", c.classes},
          {"num_layers", c.layers},
          {"out_channels", c.out_channels},
          {"positions", c.positions ? "sincos" : "none"},
          {"sample_size", c.sample_size},
          {"state_size", c.state_size}};
}

absl::Status WriteIndex(const std::string& folder, io::BaseKind kind, const std::vector<std::string>& classes) {
  OrderedJson labels = OrderedJson::object();
  for (size_t i = 0; i < classes.size(); ++i) labels[std::to_string(i)] = classes[i];
  const bool dit = kind == io::BaseKind::kDiT;
  return WriteJson(
      folder + "/model_index.json",
      {{"_class_name", dit ? "DiTPipeline" : "DiffuSSMPipeline"},
       {"_diffusers_version", kDiffusersVersion},
       {"id2label", labels},
       {"scheduler", OrderedJson::array({"diffusers", "DPMSolverMultistepScheduler"})},
       {std::string(io::DenoiserFolder(kind)), dit ? OrderedJson::array({"diffusers", "DiTTransformer2DModel"})
                                                   : OrderedJson::array({kLoupe, "DiffuSSMModel"})},
       {"vae", OrderedJson::array({"diffusers", "AutoencoderKL"})}});
}

// DiT's initial values (its published code's initialize_weights): Xavier's for every matrix, biases 0, small
// embeddings, and zero wherever a branch is gated or the output made. The state spaces keep their own.
void InitialiseAsDiT(torch::nn::Module& network, const at::Generator& random) {
  nn::InitialiseAsTorch(network, random);
  torch::NoGradGuard no_grad;
  for (auto& item : network.named_parameters()) {
    torch::Tensor& value = item.value();
    const std::string& name = item.key();
    if (name.find("ssm.") != std::string::npos) continue;
    if (value.dim() == 1) {
      value.zero_();
    } else if (name.find("embedder.linear") != std::string::npos || name.find("embedding_table") != std::string::npos) {
      value.normal_(0, 0.02, random);
    } else {
      const double bound = std::sqrt(6.0 / static_cast<double>(value.size(0) + value[0].numel()));
      value.uniform_(-bound, bound, random);
    }
  }
  // norm1.linear and modulation.linear are the modulations, proj_out_1/2 and final the end.
  ZeroLastLayers(network, {"norm1.linear", "modulation.linear", "proj_out_1", "proj_out_2", "final.linear"});
}

class ClassRun {
 public:
  ClassRun(const ClassPart& part, const ClassPartInputs& in)
      : part_(part),
        in_(in),
        classes_(part.unconditional ? std::vector<std::string>{"all"} : ClassesOf(*in.corpus)),
        noise_(diffusion::NoiseScheduleConfig{.timestep_spacing = diffusion::TimestepSpacing::kLinspace,
                                              .steps_offset = 1}),
        vae_(in.vae) {}

  absl::StatusOr<train::TrainingEnd> Train() {
    LOUPE_RETURN_IF_ERROR(MakeNetwork());
    LOUPE_RETURN_IF_ERROR(WriteIndex(in_.folder, part_.kind, classes_));
    std::error_code error;
    std::filesystem::create_directories(in_.folder + "/scheduler", error);
    LOUPE_RETURN_IF_ERROR(WriteSchedulerConfig(in_.folder + "/scheduler", UNetStageOptions{}));
    ClassData data;
    in_.encode(data);
    std::vector<int64_t> ids;
    for (const data::EmojiItem& item : in_.corpus->training) ids.push_back(ClassOf(item));
    data.classes = torch::tensor(ids, torch::kInt64).to(in_.device);
    data.null_class = count();
    ClassStageOptions options = part_.options;
    if (part_.unconditional) options.class_dropout = 0;
    ClassStage stage(name(), denoiser_, std::move(data), noise_, options, in_.seed,
                     [this](int64_t step) { return Look(step); });
    return in_.train(stage, part_.schedule);
  }

 private:
  int64_t count() const { return static_cast<int64_t>(classes_.size()); }
  std::string name() const { return part_.kind == io::BaseKind::kDiT ? "dit" : "diffussm"; }
  std::string own_folder() const { return fmt::format("{}/{}", in_.folder, io::DenoiserFolder(part_.kind)); }
  int64_t ClassOf(const data::EmojiItem& item) const {
    if (part_.unconditional) return 0;
    return std::lower_bound(classes_.begin(), classes_.end(), item.subgroup) - classes_.begin();
  }

  absl::Status MakeNetwork() {
    const int64_t side = in_.pictures.size(2) / in_.vae->config().downscale();
    const std::string config_path = own_folder() + "/config.json";
    const auto random = StepGenerator(in_.seed, 0, name() + "/init");
    if (part_.kind == io::BaseKind::kDiT) {
      models::DiTConfig config = part_.dit;
      config.sample_size = side;
      config.classes = count();
      LOUPE_RETURN_IF_ERROR(WriteJson(config_path, ConfigJson(config)));
      // Read back: what the recipe asks for is held to the rules of a loaded folder.
      LOUPE_ASSIGN_OR_RETURN(config, models::DiTConfig::Read(config_path));
      dit_ = models::DiTTransformer2DModel(config);
      denoiser_ = base::MakeDiTDenoiser(dit_);
    } else {
      models::DiffuSSMConfig config = part_.ssm;
      config.sample_size = side;
      config.classes = count();
      LOUPE_RETURN_IF_ERROR(WriteJson(config_path, ConfigJson(config)));
      LOUPE_ASSIGN_OR_RETURN(config, models::DiffuSSMConfig::Read(config_path));
      denoiser_ = base::MakeDiffuSSMDenoiser(models::DiffuSSMModel(config));
    }
    InitialiseAsDiT(denoiser_->network(), random);
    denoiser_->network().to(in_.device);
    return absl::OkStatus();
  }

  absl::StatusOr<std::string> Look(int64_t step) {
    torch::NoGradGuard no_grad;
    std::map<std::string, torch::Tensor> weights;
    for (const auto& item : denoiser_->network().named_parameters()) weights[item.key()] = item.value();
    if (part_.kind == io::BaseKind::kDiT) weights = models::AsDiffusersFile(std::move(weights), dit_->config());
    LOUPE_RETURN_IF_ERROR(WriteHalf(own_folder() + "/diffusion_pytorch_model.safetensors", weights));
    // Of up to ten classes, evenly over the list: a real picture, then two samples.
    const int64_t shown = std::min<int64_t>(count(), 10);
    std::vector<int64_t> ids;
    std::vector<data::EmojiItem> real;
    for (int64_t i = 0; i < shown; ++i) {
      ids.push_back(i * count() / shown);
      for (const data::EmojiItem& item : in_.corpus->training) {
        if (ClassOf(item) != ids.back()) continue;
        real.push_back(item);
        break;
      }
    }
    const auto classes = torch::tensor(ids, torch::kInt64).repeat({2}).unsqueeze(1).to(in_.device);
    const auto null = torch::full_like(classes, count());
    const bool guided = part_.sheet_guidance != 1 && !part_.unconditional;
    const auto rows = guided ? torch::cat({null, classes}) : classes;
    const auto predict = [&](const torch::Tensor& latents, int64_t t) {
      return denoiser_->NoisePart(denoiser_->Forward(latents, torch::tensor({t}).to(in_.device), rows));
    };
    auto sampler = sampling::MakeSampler(sampling::SamplerKind::kDpmSolverPlusPlus2M, noise_, part_.sheet_steps);
    std::vector<int64_t> shape = denoiser_->Shape();
    shape.insert(shape.begin(), 2 * shown);
    const auto noise = torch::randn(shape, StepGenerator(in_.seed, 0, name() + "/sheet")).to(in_.device);
    const auto latents =
        sampling::RunSampler(*sampler, noise, guided ? sampling::WithGuidance(predict, part_.sheet_guidance) : predict);
    const auto samples = (vae_->DecodeScaled(latents) * 0.5 + 0.5).clamp(0, 1);
    const std::string sheet = fmt::format("{}/{}-{:06d}.png", in_.sheets, name(), step);
    const auto originals = PicturesOf(in_.pictures, real).to(torch::kFloat32) / 255;
    LOUPE_RETURN_IF_ERROR(WriteSheet(sheet, torch::cat({originals, samples}), shown));
    return sheet;
  }

  const ClassPart& part_;
  const ClassPartInputs& in_;
  const std::vector<std::string> classes_;
  const diffusion::NoiseSchedule noise_;
  std::shared_ptr<base::Denoiser> denoiser_;
  models::DiTTransformer2DModel dit_{nullptr};
  models::AutoencoderKL vae_;
};

}  // namespace

std::vector<std::string> ClassesOf(const Corpus& corpus) {
  std::set<std::string> groups;
  for (const data::EmojiItem& item : corpus.training) groups.insert(item.subgroup);
  return {groups.begin(), groups.end()};
}

absl::StatusOr<train::TrainingEnd> TrainClassPart(const ClassPart& part, const ClassPartInputs& inputs) {
  return ClassRun(part, inputs).Train();
}

}  // namespace loupe::worker::pretrain

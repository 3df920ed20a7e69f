#include "worker/pretrain/pretrain_config.h"

#include <set>
#include <string_view>
#include <type_traits>

#include "common/status_macros.h"
#include "fmt/format.h"
#include "yaml-cpp/yaml.h"

namespace loupe::worker::pretrain {
namespace {

// One mapping of the file; remembers what was asked for and the first error.
class Section {
 public:
  Section(std::string path, std::string name, YAML::Node node, absl::Status& status)
      : path_(std::move(path)), name_(std::move(name)), node_(std::move(node)), status_(status) {
    if (node_ && !node_.IsMap() && !node_.IsNull()) Fail(node_, "expected a mapping of keys to values");
  }

  bool present() const { return node_.IsDefined(); }

  template <typename T>
  void Get(const char* key, T& value) {
    asked_.insert(key);
    if (!node_ || !node_.IsMap() || !node_[key]) return;
    try {
      value = node_[key].as<T>();
    } catch (const YAML::Exception&) {
      Fail(node_[key], fmt::format("key '{}' is not {}", key, Kind<T>()));
    }
  }

  template <typename T>
  void Get(const char* key, T& value, T least, T most) {
    Get(key, value);
    if (!(value >= least && value <= most)) {
      Fail(node_[key], fmt::format("key '{}' is {}, expected {} to {}", key, value, least, most));
    }
  }

  Section Inner(const char* key) {
    asked_.insert(key);
    return {path_, key, node_ && node_.IsMap() ? node_[key] : YAML::Node(YAML::NodeType::Undefined), status_};
  }

  void Finish() {
    if (!node_ || !node_.IsMap()) return;
    for (const auto& entry : node_) {
      const auto key = entry.first.as<std::string>();
      if (!asked_.contains(key)) Fail(entry.first, fmt::format("unknown key '{}'", key));
    }
  }

  void Fail(const YAML::Node& where, std::string_view what) {
    if (!status_.ok()) return;
    const int line = where ? where.Mark().line + 1 : 0;
    const std::string place = name_.empty() ? "" : fmt::format(" in '{}'", name_);
    status_ = absl::InvalidArgumentError(fmt::format("{}:{}: {}{}", path_, line, what, place));
  }
  void FailHere(std::string_view what) { Fail(node_, what); }

 private:
  template <typename T>
  static std::string_view Kind() {
    if constexpr (std::is_integral_v<T>) return "a whole number";
    if constexpr (std::is_floating_point_v<T>) return "a number";
    if constexpr (std::is_same_v<T, std::string>) return "text";
    return "a list of the right kind";
  }

  std::string path_, name_;
  YAML::Node node_;
  absl::Status& status_;
  std::set<std::string, std::less<>> asked_;
};

// Of products and convolutions: bf16 is the faster one where the processor multiplies bfloat16 matrices (AMX, AVX-512
// BF16).
void ReadPrecision(Section& section, torch::ScalarType& precision) {
  std::string name = "float32";
  section.Get("precision", name);
  if (name != "float32" && name != "bf16") {
    section.FailHere(fmt::format("key 'precision' is '{}', expected float32 or bf16", name));
  }
  precision = name == "bf16" ? torch::kBFloat16 : torch::kFloat32;
}

void ReadSource(Section& section, PartSource& source) {
  section.Get("from", source.from);
  section.Get("init_from", source.init_from);
  if (!source.from.empty() && !source.init_from.empty()) {
    section.FailHere("'from' and 'init_from' exclude each other: 'from' trains nothing");
  }
}

void ReadSchedule(Section& section, train::NetworkTraining& schedule) {
  constexpr int64_t kMost = 100'000'000;
  section.Get<int64_t>("steps", schedule.steps, 0, kMost);
  section.Get<int64_t>("warm_up", schedule.warm_up, 0, kMost);
  section.Get("decay", schedule.decay, 0.0, 1.0);
  section.Get("average", schedule.average, 0.0, 1.0);
  section.Get<int64_t>("checkpoint_every", schedule.checkpoint_every, 1, kMost);
  section.Get<int64_t>("look_every", schedule.look_every, 1, kMost);
  section.Get("muon_rate", schedule.rates.muon_rate, 0.0, 1.0);
  section.Get("adam_rate", schedule.rates.adam_rate, 0.0, 1.0);
  section.Get("weight_decay", schedule.rates.weight_decay, 0.0, 1.0);
  if (schedule.look_every % schedule.checkpoint_every != 0) {
    section.FailHere(fmt::format("look_every ({}) is not a multiple of checkpoint_every ({})", schedule.look_every,
                                 schedule.checkpoint_every));
  }
}

// Every key is always asked for: a part that is taken as it is may still carry the settings it was trained with.
void ReadTokenizer(Section section, TokenizerPart& part) {
  part.present = section.present();
  ReadSource(section, part.source);
  section.Get<int64_t>("merges", part.bpe.merges, 0, 1'000'000);
  section.Get("reserved", part.bpe.reserved);
  section.Get<int64_t>("max_length", part.max_length, 4, 1024);
  if (!part.source.init_from.empty()) section.FailHere("a tokenizer has no 'init_from'; use 'from'");
  section.Finish();
}

void ReadVae(Section section, VaePart& part) {
  part.present = section.present();
  ReadSource(section, part.source);
  section.Get("channels", part.channels);
  section.Get<int64_t>("groups", part.groups, 1, 1024);
  section.Get<int64_t>("batch", part.options.batch, 1, 65536);
  ReadPrecision(section, part.options.precision);
  part.schedule.rates.muon_precision = part.options.precision;
  section.Get("squared", part.options.squared, 0.0, 1e6);
  section.Get("edges", part.options.edges, 0.0, 1e6);
  section.Get("kl", part.options.kl, 0.0, 1e6);
  ReadSchedule(section, part.schedule);
  section.Finish();
}

void ReadClip(Section section, ClipPart& part) {
  part.present = section.present();
  ReadSource(section, part.source);
  section.Get<int64_t>("width", part.width, 1, 65536);
  section.Get<int64_t>("inner", part.inner, 1, 65536);
  section.Get<int64_t>("heads", part.heads, 1, 1024);
  section.Get<int64_t>("text_layers", part.text_layers, 1, 256);
  section.Get<int64_t>("image_width", part.image_width, 1, 65536);
  section.Get<int64_t>("image_inner", part.image_inner, 1, 65536);
  section.Get<int64_t>("image_heads", part.image_heads, 1, 1024);
  section.Get<int64_t>("image_layers", part.image_layers, 1, 256);
  section.Get<int64_t>("patch", part.patch, 1, 1024);
  section.Get<int64_t>("projection", part.projection, 1, 65536);
  section.Get<int64_t>("batch", part.options.batch, 2, 65536);
  section.Get("text_weight", part.options.text_weight, 0.0, 1e6);
  section.Get("soft_share", part.options.soft_share, 0.0, 1.0);
  section.Get("aim_weight", part.options.aim_weight, 0.0, 1e6);
  section.Get("shape_weight", part.options.shape_weight, 0.0, 1e6);
  section.Get("near_weight", part.options.near_weight, 0.0, 1e6);
  section.Get<int64_t>("neighbours", part.options.neighbours, 1, 65536);
  ReadSchedule(section, part.schedule);
  section.Finish();
}

void ReadUNet(Section section, UNetPart& part) {
  part.present = section.present();
  ReadSource(section, part.source);
  section.Get("channels", part.channels);
  section.Get<int64_t>("groups", part.groups, 1, 1024);
  section.Get<int64_t>("heads", part.heads, 1, 1024);
  section.Get<int64_t>("views", part.views, 1, 64);
  section.Get<int64_t>("mixed_captions", part.mixed_captions, 0, 1024);
  section.Get<int64_t>("batch", part.options.batch, 1, 65536);
  ReadPrecision(section, part.options.precision);
  part.schedule.rates.muon_precision = part.options.precision;
  section.Get("snr_cap", part.options.snr_cap, 1e-6, 1e9);
  section.Get("caption_dropout", part.options.caption_dropout, 0.0, 1.0);
  section.Get("sheet_guidance", part.sheet_guidance, 0.0, 100.0);
  section.Get<int64_t>("sheet_steps", part.sheet_steps, 1, 999);
  ReadSchedule(section, part.schedule);
  section.Finish();
}

// What both class-conditional parts have.
void ReadClassPart(Section& section, ClassPart& part) {
  part.present = section.present();
  section.Get("unconditional", part.unconditional);
  section.Get<int64_t>("views", part.views, 1, 64);
  section.Get<int64_t>("batch", part.options.batch, 1, 65536);
  ReadPrecision(section, part.options.precision);
  part.schedule.rates.muon_precision = part.options.precision;
  section.Get("snr_cap", part.options.snr_cap, 1e-6, 1e9);
  section.Get("vlb_weight", part.options.vlb_weight, 0.0, 1e6);
  section.Get("class_dropout", part.options.class_dropout, 0.0, 1.0);
  section.Get("sheet_guidance", part.sheet_guidance, 0.0, 100.0);
  section.Get<int64_t>("sheet_steps", part.sheet_steps, 1, 999);
  ReadSchedule(section, part.schedule);
  section.Finish();
}

void ReadDiT(Section section, ClassPart& part) {
  section.Get<int64_t>("heads", part.dit.heads, 1, 1024);
  section.Get<int64_t>("head_width", part.dit.head_width, 1, 65536);
  section.Get<int64_t>("layers", part.dit.layers, 1, 1024);
  section.Get<int64_t>("patch", part.dit.patch_size, 1, 1024);
  ReadClassPart(section, part);
}

// `second` where the key names it; anything but the two is an error.
bool ReadEither(Section& section, const char* key, const std::string& first, const std::string& second) {
  std::string value = first;
  section.Get(key, value);
  if (value != first && value != second) {
    section.FailHere(fmt::format("key '{}' is '{}', expected {} or {}", key, value, first, second));
  }
  return value == second;
}

void ReadDiffuSSM(Section section, ClassPart& part) {
  section.Get<int64_t>("width", part.ssm.width, 4, 65536);
  section.Get<int64_t>("layers", part.ssm.layers, 1, 1024);
  section.Get<int64_t>("hourglass", part.ssm.hourglass, 1, 1024);
  section.Get<int64_t>("state_size", part.ssm.state_size, 2, 65536);
  part.ssm.discretisation = ReadEither(section, "discretisation", "zoh", "bilinear")
                                ? nn::Discretisation::kBilinear
                                : nn::Discretisation::kZeroOrderHold;
  part.ssm.silu = ReadEither(section, "activation", "gelu", "silu");
  part.ssm.gated = !ReadEither(section, "modulation", "shift-scale-gate", "shift-scale");
  part.ssm.positions = !ReadEither(section, "positions", "sincos", "none");
  ReadClassPart(section, part);
}

absl::Status CheckParts(const std::string& path, const PretrainConfig& config) {
  const auto error = [&](std::string_view what) {
    return absl::InvalidArgumentError(fmt::format("{}: {}", path, what));
  };
  if (config.items.empty() == config.pictures.empty()) {
    return error("expected one of 'items', a list of emoji to train on, and 'pictures', folders of them");
  }
  if (config.clip.present && !config.tokenizer.present) return error("'clip' needs a 'tokenizer'");
  if (config.unet.present + config.dit.present + config.diffussm.present > 1) {
    return error("'unet', 'dit' and 'diffussm' exclude each other: a base has one of them");
  }
  if (config.dit.present && !config.vae.present) return error("'dit' needs a 'vae'");
  if (config.diffussm.present && !config.vae.present) return error("'diffussm' needs a 'vae'");
  if (!config.unet.present) return absl::OkStatus();
  if (!config.vae.present) return error("'unet' needs a 'vae'");
  if (!config.tokenizer.present) return error("'unet' needs a 'tokenizer'");
  if (!config.clip.present && config.text_encoder_from.empty()) {
    return error("'unet' needs a text tower: a 'clip' to train, or 'text_encoder_from'");
  }
  if (config.clip.present && !config.text_encoder_from.empty()) {
    return error("'clip' and 'text_encoder_from' exclude each other");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<PretrainConfig> PretrainConfig::Read(const std::string& path) {
  YAML::Node root;
  try {
    root = YAML::LoadFile(path);
  } catch (const YAML::BadFile&) {
    return absl::NotFoundError(fmt::format("{}: cannot be read", path));
  } catch (const YAML::Exception& e) {
    return absl::InvalidArgumentError(fmt::format("{}:{}: not YAML: {}", path, e.mark.line + 1, e.msg));
  }
  PretrainConfig config;
  // The picture tower's rates; the diffusion network's and the autoencoder's are NetworkTraining's.
  config.clip.schedule.rates.adam_rate = 2e-3;
  config.clip.schedule.average = 0.99;

  absl::Status status;
  Section top(path, "", root, status);
  top.Get<uint64_t>("seed", config.seed);
  top.Get<int>("threads", config.threads, 1, 1024);
  top.Get("items", config.items);
  top.Get("pictures", config.pictures);
  top.Get("font", config.font);
  top.Get<int64_t>("picture_size", config.picture_size, 8, 1024);
  top.Get("text_encoder_from", config.text_encoder_from);
  ReadTokenizer(top.Inner("tokenizer"), config.tokenizer);
  ReadVae(top.Inner("vae"), config.vae);
  ReadClip(top.Inner("clip"), config.clip);
  ReadUNet(top.Inner("unet"), config.unet);
  ReadDiT(top.Inner("dit"), config.dit);
  ReadDiffuSSM(top.Inner("diffussm"), config.diffussm);
  top.Finish();
  LOUPE_RETURN_IF_ERROR(status);
  LOUPE_RETURN_IF_ERROR(CheckParts(path, config));
  return config;
}

}  // namespace loupe::worker::pretrain

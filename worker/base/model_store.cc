#include "worker/base/model_store.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <functional>
#include <set>
#include <stdexcept>
#include <thread>
#include <vector>

#include "common/logging.h"
#include "common/sha256.h"
#include "fmt/format.h"
#include "worker/base/file_stamp.h"
#include "worker/runtime/user_error.h"

namespace loupe::worker::base {
namespace {

// The files that make up a model's identity, by ending. A base's digest stands in adapter files: do not add to these.
const std::set<std::string> kModelFiles = {".json", ".safetensors", ".txt"};
const std::set<std::string> kModelFilesOfEitherKind = {".bin", ".json", ".safetensors", ".txt"};

std::string Ending(const std::string& path) { return std::filesystem::path(path).extension().string(); }

// Whether a .bin file, a DiT's published .pt or a .ckpt with all networks is what is loaded of its folder: a network's
// own, without safetensors beside it. (Where there are some, the digests of earlier versions hold.)
bool CountsAsWeights(const std::string& path, const std::vector<std::string>& all) {
  const std::string folder = std::filesystem::path(path).parent_path().string();
  static const std::set<std::string> kNetworks = {"",   "unet", "vae", "text_encoder", "text_encoder_2", "transformer",
                                                  "ssm"};
  const std::string ending = Ending(path);
  const bool published = folder == "transformer" && (ending == ".pt" || ending == ".pth");
  const bool single = folder.empty() && ending == ".ckpt";
  if ((ending != ".bin" && !published && !single) || !kNetworks.contains(folder)) return false;
  for (const std::string& other : all) {
    if (Ending(other) == ".safetensors" && std::filesystem::path(other).parent_path().string() == folder) return false;
  }
  return true;
}

absl::StatusOr<std::string> DigestOfFolder(const std::string& folder, const std::set<std::string>& endings) {
  Sha256 digest;
  const std::vector<std::string> paths = FilesBelow(folder);
  for (const std::string& path : paths) {
    if (!endings.contains(Ending(path)) && !CountsAsWeights(path, paths)) continue;
    const auto sha256 = Sha256HexOfFile(fmt::format("{}/{}", folder, path));
    if (!sha256.ok()) return sha256.status();
    digest.Update(fmt::format("{}\n{}\n", path, *sha256));
  }
  return digest.FinishHex();
}

// `path_of`: of a kept model's key.
template <typename Kept>
bool HasChanged(const Kept& kept, const auto& path_of) {
  return std::any_of(kept.begin(), kept.end(), [&](const auto& entry) {
    return FileStamp(std::invoke(path_of, entry.first)) != entry.second.stamp;
  });
}

template <typename Kept>
bool DropChanged(Kept& kept, const auto& path_of) {
  return std::erase_if(kept, [&](const auto& entry) {
           const std::string& path = std::invoke(path_of, entry.first);
           if (FileStamp(path) == entry.second.stamp) return false;
           LogWarning("{}: its files have changed: they are read again", path);
           return true;
         }) > 0;
}

}  // namespace

template <typename Model, typename Key, typename Load, typename Digest>
LoadedModel<Model>& ModelStore::Keep(std::map<Key, LoadedModel<Model>>& kept, const Key& key, const std::string& path,
                                     const Load& load, const Digest& digest) {
  if (const auto found = kept.find(key); found != kept.end()) return found->second;
  constexpr int kTries = 10;
  for (int i = 0; i < kTries; ++i) {
    if (i > 0) std::this_thread::sleep_for(std::chrono::seconds(1));
    const std::string stamp = FileStamp(path);
    absl::StatusOr<Model> model = load(path);
    absl::StatusOr<std::string> sha256 = model.ok() ? digest(path) : absl::StatusOr<std::string>(model.status());
    // What was read between two stamps that differ is of neither.
    if (FileStamp(path) != stamp) continue;
    if (!sha256.ok() && ever_loaded_.contains(path)) {
      throw std::runtime_error(fmt::format("{}; its files have changed since this worker loaded them",
                                           std::string(sha256.status().message())));
    }
    runtime::ThrowIfError(sha256.status());
    LogInfo("loaded {}", path);
    ever_loaded_.insert(path);
    return kept.emplace(key, LoadedModel<Model>{*std::move(model), *sha256, stamp}).first->second;
  }
  throw std::runtime_error(
      fmt::format("{}: its files change while they are read; copy them elsewhere and put them in place by "
                  "renaming",
                  path));
}

LoadedModel<BaseModel>& ModelStore::Base(const std::string& folder) {
  return Keep(
      bases_, folder, folder,
      [&](const std::string& f) {
        absl::StatusOr<BaseModel> base = LoadBase(f, {.device = device_});
        if (base.ok()) base->recorder = recorder_;
        return base;
      },
      [](const std::string& f) { return DigestOfFolder(f, kModelFiles); });
}

LoadedModel<BaseModel>& ModelStore::Base(const settings::Settings& settings) {
  LoadedModel<BaseModel>& own = Base(settings.Text("base"));
  const int64_t side = settings.Integer("task.picture_size");
  if (side == 0) return own;
  const auto positions =
      settings.Text("task.positions") == "counted" ? nn::PositionScaling::kCounted : nn::PositionScaling::kTrainedRange;
  BaseModel resized = runtime::ValueOrThrow(AtPictureSize(own.model, side, positions));
  const std::string key = fmt::format("{}\n{}", own.model.folder, resized.size_note);
  return resized_.try_emplace(key, LoadedModel<BaseModel>{std::move(resized), own.sha256, own.stamp}).first->second;
}

LoadedModel<ClipScorer>& ModelStore::Scorer(const std::string& folder) {
  return Keep(
      scorers_, folder, folder, [&](const std::string& f) { return LoadClipScorer(f, {.device = device_}); },
      [](const std::string& f) { return DigestOfFolder(f, kModelFiles); });
}

LoadedModel<PictureNetwork>& ModelStore::Network(const PictureNetworkKind& kind, const std::string& path,
                                                 const std::string& variant) {
  return Keep(
      networks_, NetworkKey{kind.name, path, variant}, path,
      [&](const std::string& f) { return kind.load(f, variant, {.device = device_}); },
      [&](const std::string& f) {
        return kind.is_file ? Sha256HexOfFile(f) : DigestOfFolder(f, kModelFilesOfEitherKind);
      });
}

LoadedModel<PictureNetwork>* ModelStore::Network(const PictureNetworkKind& kind, const settings::Settings& settings) {
  if (!settings.Has(kind.setting)) return nullptr;
  return &Network(kind, settings.Text(kind.setting),
                  kind.variant_setting.empty() ? "" : settings.Text(kind.variant_setting));
}

bool ModelStore::Changed() const {
  return HasChanged(bases_, std::identity{}) || HasChanged(scorers_, std::identity{}) ||
         HasChanged(networks_, &NetworkKey::path);
}

bool ModelStore::ForgetChanged() {
  // Each of them: no short cut.
  const bool bases = DropChanged(bases_, std::identity{}), scorers = DropChanged(scorers_, std::identity{}),
             networks = DropChanged(networks_, &NetworkKey::path);
  if (bases) resized_.clear();
  return bases || scorers || networks;
}

void ModelStore::ForgetAll() {
  bases_.clear();
  resized_.clear();
  scorers_.clear();
  networks_.clear();
}

}  // namespace loupe::worker::base

#include "worker/executor/model_store.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <vector>

#include "common/sha256.h"
#include "fmt/format.h"
#include "spdlog/spdlog.h"
#include "worker/train/user_error.h"

namespace loupe::worker {
namespace {

namespace fs = std::filesystem;

// The files that make up a model's identity, by ending. A base's digest stands in adapter files: do not add to these.
const std::set<std::string> kModelFiles = {".json", ".safetensors", ".txt"};
const std::set<std::string> kModelFilesOfEitherKind = {".bin", ".json", ".safetensors", ".txt"};

std::string DigestOfFolder(const std::string& folder, const std::set<std::string>& endings) {
  std::vector<std::string> paths;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file() && endings.contains(entry.path().extension().string())) {
      paths.push_back(fs::relative(entry.path(), folder).string());
    }
  }
  std::sort(paths.begin(), paths.end());
  Sha256 digest;
  for (const std::string& path : paths) {
    digest.Update(fmt::format("{}\n{}\n", path, ValueOrThrow(Sha256HexOfFile(folder + "/" + path))));
  }
  return digest.FinishHex();
}

template <typename Model, typename Load>
LoadedModel<Model>& Keep(std::map<std::string, LoadedModel<Model>>& kept, const std::string& folder, const Load& load,
                         const std::set<std::string>& endings = kModelFiles) {
  const auto found = kept.find(folder);
  if (found != kept.end()) return found->second;
  LoadedModel<Model> loaded{ValueOrThrow(load(folder)), DigestOfFolder(folder, endings)};
  spdlog::info("loaded {}", folder);
  return kept.emplace(folder, std::move(loaded)).first->second;
}

}  // namespace

LoadedModel<BaseModel>& ModelStore::Base(const std::string& folder) {
  return Keep(bases_, folder, [&](const std::string& f) { return LoadBase(f, {.device = device_}); });
}

LoadedModel<InceptionScorer>& ModelStore::InceptionNetwork(const std::string& path, InceptionResize resize) {
  const auto found = inceptions_.find({path, resize});
  if (found != inceptions_.end()) return found->second;
  LoadedModel<InceptionScorer> loaded{ValueOrThrow(LoadInceptionScorer(path, resize, {.device = device_})),
                                      ValueOrThrow(Sha256HexOfFile(path))};
  spdlog::info("loaded {}", path);
  return inceptions_.emplace(std::pair{path, resize}, std::move(loaded)).first->second;
}

LoadedModel<ClipScorer>& ModelStore::Scorer(const std::string& folder) {
  return Keep(scorers_, folder, [&](const std::string& f) { return LoadClipScorer(f, {.device = device_}); });
}

LoadedModel<DinoScorer>& ModelStore::Dino(const std::string& folder) {
  return Keep(dinos_, folder, [&](const std::string& f) { return LoadDinoScorer(f, {.device = device_}); },
              kModelFilesOfEitherKind);
}

}  // namespace loupe::worker

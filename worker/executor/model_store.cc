#include "worker/executor/model_store.h"

#include <algorithm>
#include <filesystem>
#include <vector>

#include "common/sha256.h"
#include "fmt/format.h"
#include "spdlog/spdlog.h"
#include "worker/train/user_error.h"

namespace loupe::worker {
namespace {

namespace fs = std::filesystem;

bool IsModelFile(const fs::path& path) {
  const std::string ending = path.extension().string();
  return ending == ".json" || ending == ".safetensors" || ending == ".txt";
}

std::string DigestOfFolder(const std::string& folder) {
  std::vector<std::string> paths;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file() && IsModelFile(entry.path())) {
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
LoadedModel<Model>& Keep(std::map<std::string, LoadedModel<Model>>& kept, const std::string& folder, const Load& load) {
  const auto found = kept.find(folder);
  if (found != kept.end()) return found->second;
  LoadedModel<Model> loaded{ValueOrThrow(load(folder)), DigestOfFolder(folder)};
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

}  // namespace loupe::worker

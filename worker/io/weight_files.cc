#include "worker/io/weight_files.h"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <set>
#include <string_view>
#include <tuple>
#include <utility>

#include "common/status_macros.h"
#include "fmt/format.h"
#include "worker/io/json_config.h"
#include "worker/io/torch_checkpoint.h"

namespace loupe::worker::io {
namespace {

namespace fs = std::filesystem;

struct Candidate {
  std::string file;
  std::string variant;  // "" for the plain one
  bool is_bin = false;
  bool is_index = false;
};

bool IsShard(std::string_view name) { return name.find("-of-") != std::string_view::npos; }

// `name` as one of the forms in weight_files.h, with this stem and ending.
std::optional<Candidate> Parse(const std::string& name, const std::string& stem, const std::string& ending) {
  std::string_view rest = name;
  if (!rest.starts_with(stem) || IsShard(rest)) return std::nullopt;
  rest.remove_prefix(stem.size());
  Candidate candidate{.file = name, .is_bin = ending == ".bin"};
  const std::string index = ending + ".index";
  if (rest.ends_with(".json") && rest.starts_with(index)) {
    // ".safetensors.index.json", ".safetensors.index.fp16.json"
    rest.remove_prefix(index.size());
    rest.remove_suffix(std::string_view(".json").size());
    candidate.is_index = true;
  } else if (rest.ends_with(ending)) {
    // ".safetensors", ".fp16.safetensors"
    rest.remove_suffix(ending.size());
  } else {
    return std::nullopt;
  }
  if (!rest.empty() && (rest.front() != '.' || rest.size() == 1)) return std::nullopt;
  candidate.variant = rest.empty() ? "" : rest.substr(1);
  return candidate;
}

// Weights in a form or under a name that is not read: a part without its index, or another library's.
bool IsOtherFormat(std::string_view name) {
  for (const std::string_view ending :
       {".safetensors", ".bin", ".msgpack", ".h5", ".ckpt", ".pt", ".pth", ".onnx", ".gguf"}) {
    if (name.ends_with(ending)) return true;
  }
  return false;
}

int RankOfVariant(const std::string& variant) { return variant.empty() ? 0 : variant == "fp16" ? 1 : 2; }

bool ComesBefore(const Candidate& a, const Candidate& b) {
  const auto key = [](const Candidate& c) {
    return std::tuple(RankOfVariant(c.variant), c.is_bin, c.variant, c.is_index);
  };
  return key(a) < key(b);
}

absl::Status NothingFound(const std::string& folder, const std::string& stem, const std::vector<std::string>& others) {
  std::string hint;
  const auto shard = std::find_if(others.begin(), others.end(), IsShard);
  if (shard != others.end()) {
    hint = fmt::format("; there is {}, a part: its index ({}.safetensors.index.json) is missing", *shard, stem);
  } else if (!others.empty()) {
    hint = fmt::format("; there is {}, which is not read: save the model again as .safetensors (save_pretrained)",
                       others.front());
  }
  return absl::NotFoundError(
      fmt::format("{}/{}.safetensors: not found, nor its .index.json, nor a .bin{}", folder, stem, hint));
}

}  // namespace

absl::StatusOr<WeightFiles> WeightFiles::Open(const std::string& folder, const std::string& stem) {
  const std::string bin_stem = stem == "model" ? "pytorch_model" : stem;
  std::vector<Candidate> candidates;
  std::vector<std::string> others;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    auto candidate = Parse(name, stem, ".safetensors");
    if (!candidate) candidate = Parse(name, bin_stem, ".bin");
    if (candidate) {
      candidates.push_back(*std::move(candidate));
    } else if (IsOtherFormat(name)) {
      others.push_back(name);
    }
  }
  if (candidates.empty()) {
    std::sort(others.begin(), others.end());
    return NothingFound(folder, stem, others);
  }
  std::sort(candidates.begin(), candidates.end(), ComesBefore);
  const Candidate& first = candidates.front();
  for (const Candidate& other : candidates) {
    if (RankOfVariant(first.variant) < 2 || other.variant == first.variant) continue;
    return absl::InvalidArgumentError(
        fmt::format("{}: both {} and {}, which can be other weights: keep one, or name it {}.safetensors", folder,
                    first.file, other.file, stem));
  }
  const std::string path = folder + "/" + first.file;
  return first.is_index ? OpenIndex(path, folder) : OpenFile(path);
}

absl::StatusOr<WeightFiles> WeightFiles::OpenFile(const std::string& path) {
  WeightFiles files;
  files.path_ = path;
  if (path.ends_with(".safetensors")) {
    LOUPE_ASSIGN_OR_RETURN(SafetensorsFile file, SafetensorsFile::Open(path));
    files.arrays_ = file.arrays();
    files.kept_.push_back(std::make_shared<const SafetensorsFile>(std::move(file)));
  } else {
    LOUPE_ASSIGN_OR_RETURN(TorchCheckpoint file, TorchCheckpoint::Open(path));
    files.arrays_ = file.arrays();
    files.kept_.push_back(std::make_shared<const TorchCheckpoint>(std::move(file)));
  }
  return files;
}

// {"metadata": {"total_size": …}, "weight_map": {"a.weight": "model-00001-of-00002.safetensors", …}}
absl::StatusOr<WeightFiles> WeightFiles::OpenIndex(const std::string& path, const std::string& folder) {
  LOUPE_ASSIGN_OR_RETURN(JsonConfig index, JsonConfig::Read(path));
  const JsonConfig map = index.Object("weight_map");
  LOUPE_RETURN_IF_ERROR(index.status());
  std::map<std::string, std::string> shard_of;
  std::set<std::string> shards;
  for (const auto& [name, shard] : map.object().items()) {
    if (!shard.is_string() || shard.get<std::string>().empty() ||
        shard.get<std::string>().find('/') != std::string::npos) {
      return absl::InvalidArgumentError(fmt::format(
          "{}: weight_map has {} for '{}', expected the name of a file beside it", path, shard.dump(), name));
    }
    shards.insert(shard_of[name] = shard.get<std::string>());
  }
  WeightFiles files;
  files.path_ = path;
  std::map<std::string, std::string> found_in;
  for (const std::string& shard : shards) {
    LOUPE_ASSIGN_OR_RETURN(WeightFiles part, OpenFile(folder + "/" + shard));
    for (auto& [name, array] : part.arrays_) {
      if (const auto [at, is_new] = found_in.emplace(name, shard); !is_new) {
        return absl::InvalidArgumentError(
            fmt::format("{}: '{}' is both in {} and in {}", path, name, at->second, shard));
      }
      files.arrays_[name] = array;
    }
    files.kept_.insert(files.kept_.end(), part.kept_.begin(), part.kept_.end());
  }
  for (const auto& [name, shard] : shard_of) {
    const auto found = found_in.find(name);
    if (found != found_in.end() && found->second == shard) continue;
    return absl::InvalidArgumentError(fmt::format("{}: '{}' should be in {} and is not", path, name, shard));
  }
  return files;
}

}  // namespace loupe::worker::io

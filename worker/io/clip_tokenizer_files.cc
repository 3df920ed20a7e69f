#include "worker/io/clip_tokenizer_files.h"

#include <algorithm>
#include <filesystem>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <tuple>

#include "absl/status/status.h"
#include "common/atomic_file.h"
#include "common/lfs_pointer.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "worker/io/json_config.h"

namespace loupe::worker::io {
namespace {

using nlohmann::json;

// A token as a file has it: a bare string, which counts as special, or an object with flags.
struct NamedToken {
  AddedToken token;
  bool special = true;
  bool is_string = true;

  bool operator==(const NamedToken& other) const {
    const auto key = [](const NamedToken& n) {
      return std::tie(n.token.content, n.token.single_word, n.token.lstrip, n.token.rstrip, n.token.normalized,
                      n.special, n.is_string);
    };
    return key(*this) == key(other);
  }
};

absl::Status RefusedKey(const std::string& path, const std::string& key, const json& value, std::string_view expected) {
  return absl::InvalidArgumentError(fmt::format("{}: key '{}' is {}, expected {}", path, key, value.dump(), expected));
}

// {"content": "<|endoftext|>", "lstrip": false, "normalized": true, "rstrip": false, "single_word": false}, or the
// string alone. `special_by_file`: what an object that does not say is.
absl::StatusOr<NamedToken> ParseToken(const std::string& path, const std::string& key, const json& value,
                                      bool special_by_file) {
  NamedToken named;
  if (value.is_string()) {
    named.token.content = value.get<std::string>();
  } else {
    if (!value.is_object() || !value.contains("content") || !value["content"].is_string()) {
      return RefusedKey(path, key, value, "a token or an object with its content");
    }
    JsonConfig object(path, value);
    named.token.content = object.String("content");
    named.token.single_word = object.Bool("single_word", false);
    named.token.lstrip = object.Bool("lstrip", false);
    named.token.rstrip = object.Bool("rstrip", false);
    named.special = special_by_file || object.Bool("special", false);
    named.token.normalized = object.Bool("normalized", !named.special);
    named.is_string = false;
    LOUPE_RETURN_IF_ERROR(object.status());
  }
  return named;
}

// A file that may be missing, as an empty object then.
absl::StatusOr<JsonConfig> ReadIfThere(const std::string& path) {
  auto read = JsonConfig::Read(path);
  if (absl::IsNotFound(read.status())) return JsonConfig(path, json::object());
  return read;
}

absl::StatusOr<int64_t> ParseId(const std::string& path, const std::string& token, const json& id) {
  if (id.is_number_unsigned() && id.get<uint64_t>() <= std::numeric_limits<int32_t>::max()) return id.get<int64_t>();
  return absl::InvalidArgumentError(
      fmt::format("{}: token '{}' has id {}, expected a whole number ≥ 0", path, token, id.dump()));
}

class FolderReader {
 public:
  FolderReader(const std::string& folder, JsonConfig settings) : folder_(folder), settings_(std::move(settings)) {}

  absl::StatusOr<ClipTokenizerFiles> Read() && {
    LOUPE_RETURN_IF_ERROR(CheckSettings());
    const std::string path = folder_ + "/tokenizer.json";
    if (std::filesystem::exists(path)) {
      LOUPE_ASSIGN_OR_RETURN(whole_, JsonConfig::Read(path));
      LOUPE_RETURN_IF_ERROR(ReadWhole());
    } else {
      LOUPE_ASSIGN_OR_RETURN(const JsonConfig vocabulary, JsonConfig::Read(folder_ + "/vocab.json"));
      LOUPE_RETURN_IF_ERROR(ReadVocabulary(vocabulary));
      LOUPE_RETURN_IF_ERROR(ReadMerges(folder_ + "/merges.txt"));
    }
    LOUPE_RETURN_IF_ERROR(CollectTokens());
    LOUPE_RETURN_IF_ERROR(AddTokens());
    LOUPE_RETURN_IF_ERROR(FindSpecialIds());
    return std::move(files_);
  }

 private:
  // What would give other ids.
  absl::Status CheckSettings() {
    settings_.MustBe("tokenizer_class", {"CLIPTokenizer", "CLIPTokenizerFast"});
    settings_.MustBe("padding_side", {"right"});
    settings_.MustBe("truncation_side", {"right"});
    settings_.MustBe("split_special_tokens", {false});
    // transformers writes 1e30 for "no limit".
    const char* limit = settings_.Has("model_max_length") ? "model_max_length" : "max_len";
    const double length = settings_.Number(limit, 77.0);
    if (length < 2) settings_.Refuse(limit, "at least 2");
    if (length >= 2 && length < 1e6) files_.max_length = static_cast<int64_t>(length);
    return settings_.status();
  }

  absl::Status ReadVocabulary(const JsonConfig& vocabulary) {
    for (const auto& [token, id] : vocabulary.object().items()) {
      LOUPE_ASSIGN_OR_RETURN(const int64_t number, ParseId(vocabulary.path(), token, id));
      files_.vocabulary[token] = number;
      greatest_id_ = std::max(greatest_id_, number);
    }
    return absl::OkStatus();
  }

  absl::Status ReadMerges(const std::string& path) {
    LOUPE_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
    LOUPE_RETURN_IF_ERROR(CheckIsNoLfsPointer(path, text));
    files_.merges_path = path;
    int64_t number = 0;
    for (size_t begin = 0; begin < text.size();) {
      const size_t end = std::min(text.find('\n', begin), text.size());
      std::string_view line = std::string_view(text).substr(begin, end - begin);
      begin = end + 1;
      ++number;
      if (line.ends_with('\r')) line.remove_suffix(1);
      if (line.empty() || line.starts_with("#version")) continue;
      AddMerge(line, number);
    }
    return absl::OkStatus();
  }

  void AddMerge(std::string_view line, int64_t number) {
    const size_t space = line.find(' ');
    files_.merges.emplace_back(line.substr(0, space), space == std::string_view::npos ? "" : line.substr(space + 1));
    files_.merge_lines.push_back(number);
  }

  // tokenizer.json: that it is CLIP's way of cutting text, and its vocabulary and merges.
  absl::Status ReadWhole() {
    JsonConfig model = whole_->Object("model");
    LOUPE_RETURN_IF_ERROR(whole_->status());
    model.MustBe("type", {"BPE"});
    model.MustBe("end_of_word_suffix", {"</w>"});
    model.MustBe("continuing_subword_prefix", {""});
    model.MustBe("dropout", {0.0});
    for (const char* key : {"fuse_unk", "byte_fallback", "ignore_merges"}) model.MustBe(key, {false});
    const JsonConfig vocabulary = model.Object("vocab");
    LOUPE_RETURN_IF_ERROR(model.status());
    LOUPE_RETURN_IF_ERROR(ReadVocabulary(vocabulary));
    const json merges = model.object().value("merges", json::array());
    if (!merges.is_array()) return RefusedKey(whole_->path(), "merges", merges, "a list");
    files_.merges_path = whole_->path();
    const auto is_text = [](const json& part) { return part.is_string(); };
    for (const json& merge : merges) {
      const auto number = static_cast<int64_t>(files_.merges.size()) + 1;
      if (merge.is_string()) {
        AddMerge(merge.get_ref<const std::string&>(), number);
      } else if (merge.is_array() && merge.size() == 2 && std::all_of(merge.begin(), merge.end(), is_text)) {
        files_.merges.emplace_back(merge[0].get<std::string>(), merge[1].get<std::string>());
        files_.merge_lines.push_back(number);
      } else {
        return RefusedKey(whole_->path(), "merges", merge, "two tokens");
      }
    }
    return CheckSteps();
  }

  // transformers' class has its own normaliser and cuts words by itself; older versions took the file's. They must be
  // the same.
  absl::Status CheckSteps() {
    const auto types = [&](const char* key, const char* list) {
      std::string names;
      const json steps = whole_->object().value(key, json());
      if (!steps.is_object() || !steps.contains(list) || !steps[list].is_array()) return names;
      for (const json& step : steps[list]) {
        if (step.is_object() && step.contains("type") && step["type"].is_string())
          names += step["type"].get<std::string>() + " ";
      }
      return names;
    };
    if (types("normalizer", "normalizers") != "NFC Replace Lowercase ") {
      whole_->Refuse("normalizer", "CLIP's: NFC, white space to one space, lower case");
    }
    if (types("pre_tokenizer", "pretokenizers") != "Split ByteLevel ") {
      whole_->Refuse("pre_tokenizer", "CLIP's: Split by its pattern, then ByteLevel");
    }
    for (const char* key : {"padding", "truncation"}) {
      if (!whole_->Has(key)) continue;
      JsonConfig part = whole_->Object(key);
      part.MustBe("direction", {"Right"});
      LOUPE_RETURN_IF_ERROR(part.status());
    }
    return whole_->status();
  }

  // The named special tokens, other special ones, and the added ones by id: from which file is said in the header.
  absl::Status CollectTokens() {
    json named = settings_.object();
    std::map<std::string, std::string> file_of;
    // Since version 5 additional_special_tokens are called extra_special_tokens.
    bool has_extra = named.contains("extra_special_tokens");
    json extra = named.value("extra_special_tokens", json());
    if (extra.empty() && named.contains("additional_special_tokens")) {
      extra = named["additional_special_tokens"];
      has_extra = true;
    }
    LOUPE_RETURN_IF_ERROR(ReadExtra(extra));
    if (named.contains("added_tokens_decoder")) {
      LOUPE_RETURN_IF_ERROR(ReadDecoder(named["added_tokens_decoder"]));
      return ReadNamed(named, file_of);
    }
    LOUPE_ASSIGN_OR_RETURN(const JsonConfig map, ReadIfThere(folder_ + "/special_tokens_map.json"));
    for (const auto& [key, value] : map.object().items()) {
      named[key] = value;
      file_of[key] = map.path();
    }
    LOUPE_RETURN_IF_ERROR(ReadNamed(named, file_of));
    LOUPE_RETURN_IF_ERROR(ReadExtra(map.object().value("extra_special_tokens", json())));
    LOUPE_RETURN_IF_ERROR(ReadAdded());
    // Only now: what added_tokens.json has counts as special by the old name in tokenizer_config.json, and not by the
    // one here.
    has_extra = has_extra || map.object().contains("extra_special_tokens");
    return has_extra ? absl::OkStatus() : ReadExtra(map.object().value("additional_special_tokens", json()));
  }

  absl::Status ReadDecoder(const json& decoder) {
    if (!decoder.is_object()) return RefusedKey(settings_.path(), "added_tokens_decoder", decoder, "an object");
    for (const auto& [text, value] : decoder.items()) {
      const bool is_number =
          !text.empty() && text.size() < 10 && text.find_first_not_of("0123456789") == std::string::npos;
      if (!is_number) return RefusedKey(settings_.path(), "added_tokens_decoder", json(text), "ids as keys");
      LOUPE_ASSIGN_OR_RETURN(added_[std::stoll(text)],
                             ParseToken(settings_.path(), "added_tokens_decoder", value, false));
    }
    return absl::OkStatus();
  }

  absl::Status ReadNamed(const json& named, const std::map<std::string, std::string>& file_of) {
    static constexpr std::pair<const char*, const char*> kNames[] = {
        {"bos_token", "<|startoftext|>"}, {"eos_token", "<|endoftext|>"}, {"unk_token", "<|endoftext|>"},
        {"sep_token", nullptr},           {"pad_token", "<|endoftext|>"}, {"cls_token", nullptr},
        {"mask_token", nullptr}};
    const auto read = [&](const std::string& key, const json& value) -> absl::Status {
      const auto file = file_of.find(key);
      const std::string& path = file == file_of.end() ? settings_.path() : file->second;
      LOUPE_ASSIGN_OR_RETURN(NamedToken token, ParseToken(path, key, value, file != file_of.end()));
      if (token.token.content.empty())
        return absl::InvalidArgumentError(fmt::format("{}: {} is empty, expected a token", path, key));
      if (value.is_string() || file != file_of.end()) special_by_name_.insert(token.token.content);
      named_.emplace_back(key, std::move(token));
      return absl::OkStatus();
    };
    for (const auto& [key, or_else] : kNames) {
      const auto found = named.find(key);
      if (or_else == nullptr && (found == named.end() || found->is_null())) continue;
      if (found == named.end()) {
        named_.push_back({key, {.token = {.content = or_else}}});
      } else {
        LOUPE_RETURN_IF_ERROR(read(key, *found));
      }
    }
    for (const auto& [key, value] : named.items()) {
      const auto is_this = [&](const auto& name) { return key == name.first; };
      if (!key.ends_with("_token") || !value.is_string() || std::any_of(std::begin(kNames), std::end(kNames), is_this))
        continue;
      named_.push_back({key, {.token = {.content = value.get<std::string>()}}});
    }
    return absl::OkStatus();
  }

  // A list of tokens, or an object of names to tokens.
  absl::Status ReadExtra(const json& extra) {
    if (extra.is_null()) return absl::OkStatus();
    if (!extra.is_array() && !extra.is_object())
      return RefusedKey(settings_.path(), "extra_special_tokens", extra, "a list of tokens");
    for (const json& value : extra) {
      LOUPE_ASSIGN_OR_RETURN(NamedToken token, ParseToken(settings_.path(), "extra_special_tokens", value, true));
      if (value.is_string()) special_by_name_.insert(token.token.content);
      extra_.push_back(std::move(token));
    }
    return absl::OkStatus();
  }

  // added_tokens.json, then what tokenizer.json says of the same ids.
  absl::Status ReadAdded() {
    LOUPE_ASSIGN_OR_RETURN(const JsonConfig file, ReadIfThere(folder_ + "/added_tokens.json"));
    for (const auto& [content, id] : file.object().items()) {
      LOUPE_ASSIGN_OR_RETURN(const int64_t number, ParseId(file.path(), content, id));
      const bool special = special_by_name_.contains(content);
      added_[number] = {.token = {.content = content, .normalized = !special}, .special = special, .is_string = false};
    }
    if (!whole_) return absl::OkStatus();
    const json tokens = whole_->object().value("added_tokens", json::array());
    if (!tokens.is_array()) return RefusedKey(whole_->path(), "added_tokens", tokens, "a list");
    for (const json& value : tokens) {
      if (!value.is_object() || !value.contains("id"))
        return RefusedKey(whole_->path(), "added_tokens", value, "tokens with an id");
      LOUPE_ASSIGN_OR_RETURN(const int64_t number,
                             ParseId(whole_->path(), value.value("content", json()).dump(), value["id"]));
      LOUPE_ASSIGN_OR_RETURN(added_[number], ParseToken(whole_->path(), "added_tokens", value, false));
    }
    return absl::OkStatus();
  }

  // By rising id, then special tokens that are not among them. A special token goes by the flags of an added one of its
  // content.
  absl::Status AddTokens() {
    std::vector<NamedToken> tokens;
    std::vector<std::string> contents;
    for (const auto& [id, token] : added_) {
      LOUPE_RETURN_IF_ERROR(Add(token, id));
      contents.push_back(token.token.content);
      tokens.push_back(token);
    }
    const auto add_if_new = [&](const NamedToken& token) -> absl::Status {
      if (std::find(contents.begin(), contents.end(), token.token.content) != contents.end()) return absl::OkStatus();
      if (std::find(tokens.begin(), tokens.end(), token) != tokens.end()) return absl::OkStatus();
      tokens.push_back(token);
      return Add(token, std::nullopt);
    };
    for (const auto& [key, token] : named_) LOUPE_RETURN_IF_ERROR(add_if_new(token));
    for (const NamedToken& token : extra_) LOUPE_RETURN_IF_ERROR(add_if_new(token));
    return absl::OkStatus();
  }

  absl::Status Add(const NamedToken& token, std::optional<int64_t> id_in_file) {
    const std::string& content = token.token.content;
    if (content.empty()) return absl::OkStatus();
    std::optional<int64_t> id = IdOf(content);
    if (!id) {
      const auto size = static_cast<int64_t>(files_.vocabulary.size());
      if (greatest_id_ + 1 != size) {
        return absl::InvalidArgumentError(
            fmt::format("{}: its ids end at {} for {} tokens, so that no id follows for the added '{}'", folder_,
                        greatest_id_, size, content));
      }
      id = size + new_ids_++;
      ids_[content] = *id;
    }
    if (id_in_file && *id_in_file != *id) {
      const char* why = files_.vocabulary.contains(content) ? "its id in the vocabulary" : "the next one";
      return absl::InvalidArgumentError(
          fmt::format("{}: the added token '{}' has id {}, expected {}: {}", folder_, content, *id_in_file, *id, why));
    }
    const auto same = [&](const auto& entry) { return entry.first.content == content; };
    const auto at = std::find_if(files_.added.begin(), files_.added.end(), same);
    if (at != files_.added.end()) {
      at->first = token.token;
    } else {
      files_.added.emplace_back(token.token, *id);
    }
    return absl::OkStatus();
  }

  std::optional<int64_t> IdOf(const std::string& content) const {
    if (const auto found = ids_.find(content); found != ids_.end()) return found->second;
    const auto found = files_.vocabulary.find(content);
    return found == files_.vocabulary.end() ? std::nullopt : std::optional(found->second);
  }

  absl::Status FindSpecialIds() {
    for (const auto& [key, token] : named_) {
      const int64_t id = IdOf(token.token.content).value_or(0);
      if (key == "bos_token") files_.bos_id = id;
      if (key == "eos_token") files_.eos_id = id;
      if (key == "pad_token") files_.pad_id = id;
      if (key == "unk_token") files_.unknown_id = id;
    }
    if (!whole_) {
      // Where there is no tokenizer.json, these would leave out the tokens that CLIP was trained between.
      for (const char* key : {"add_bos_token", "add_eos_token"}) {
        if (settings_.object().contains("add_bos_token") || settings_.object().contains("add_eos_token"))
          settings_.MustBe(key, {true});
      }
      return settings_.status();
    }
    // What stands at both ends: {"type": "RobertaProcessing", "sep": ["<|endoftext|>", 49407], "cls":
    // ["<|startoftext|>", 49406]}
    if (!whole_->Has("post_processor")) return absl::OkStatus();
    const json ends = whole_->object()["post_processor"];
    const auto is_at = [&](const char* key, int64_t id) {
      return ends.contains(key) && ends[key].is_array() && ends[key].size() == 2 && ends[key][1] == id;
    };
    if (!ends.is_object() || ends.value("type", json()) != "RobertaProcessing" || !is_at("cls", files_.bos_id) ||
        !is_at("sep", files_.eos_id)) {
      whole_->Refuse("post_processor", fmt::format("RobertaProcessing from bos_token ({}) to eos_token ({})",
                                                   files_.bos_id, files_.eos_id));
    }
    return whole_->status();
  }

  const std::string folder_;
  JsonConfig settings_;              // tokenizer_config.json
  std::optional<JsonConfig> whole_;  // tokenizer.json
  ClipTokenizerFiles files_;
  int64_t greatest_id_ = -1, new_ids_ = 0;
  std::unordered_map<std::string, int64_t> ids_;  // of what is not in the vocabulary
  std::vector<std::pair<std::string, NamedToken>> named_;
  std::vector<NamedToken> extra_;
  // What added_tokens.json, which has no flags, must have as special: the tokens named as plain text, or in
  // special_tokens_map.json.
  std::set<std::string> special_by_name_;
  std::map<int64_t, NamedToken> added_;
};

}  // namespace

absl::StatusOr<ClipTokenizerFiles> ClipTokenizerFiles::Read(const std::string& folder) {
  LOUPE_ASSIGN_OR_RETURN(JsonConfig settings, ReadIfThere(folder + "/tokenizer_config.json"));
  return FolderReader(folder, std::move(settings)).Read();
}

}  // namespace loupe::worker::io

#include "worker/methods/files/adapter_file.h"

#include "absl/strings/numbers.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "nlohmann/json.hpp"
#include "worker/io/safetensors.h"
#include "worker/methods/lora.h"
#include "worker/models/weights.h"
#include "worker/runtime/finite.h"

namespace loupe::worker::methods::files {
namespace {

// Do not change: files outlive the program (docs/formats.md).
constexpr char kFormatKey[] = "loupe.format";
constexpr char kFormat[] = "loupe-adapter-v1";
constexpr char kSettingsKey[] = "loupe.settings";
constexpr char kCellKey[] = "loupe.cell";
constexpr char kSweepSeedKey[] = "loupe.sweep_seed";
constexpr char kReplicateKey[] = "loupe.replicate";
constexpr char kStepsKey[] = "loupe.steps";
constexpr char kTrialKey[] = "loupe.trial";
constexpr char kBaseKey[] = "loupe.base_sha256";
constexpr char kProvenanceKey[] = "loupe.provenance";

// One entry of the metadata; the first that is missing is remembered.
class MetadataReader {
 public:
  MetadataReader(const std::string& path, const io::Metadata& metadata) : path_(path), metadata_(metadata) {}

  std::string Text(const char* key) {
    const auto found = metadata_.find(key);
    if (found != metadata_.end()) return found->second;
    Fail(key, "is missing");
    return {};
  }
  template <typename Number>
  Number Integer(const char* key) {
    const std::string text = Text(key);
    Number number = 0;
    if (!absl::SimpleAtoi(text, &number)) Fail(key, "is no whole number");
    return number;
  }
  std::map<std::string, std::string> Map(const char* key) {
    try {
      return nlohmann::json::parse(Text(key)).get<std::map<std::string, std::string>>();
    } catch (const nlohmann::json::exception&) {
      Fail(key, "is no JSON object of strings");
      return {};
    }
  }
  const absl::Status& status() const { return status_; }

 private:
  void Fail(const char* key, const char* what) {
    if (!status_.ok()) return;
    status_ = absl::InvalidArgumentError(
        fmt::format("{}: not an adapter file of this program: its metadata '{}' {}", path_, key, what));
  }
  const std::string& path_;
  const io::Metadata& metadata_;
  absl::Status status_;
};

}  // namespace

absl::Status WriteAdapterFile(const std::string& path, const AdapterFile& file) {
  // Without settings that mean what programs did before there were any: an older program reads the file, too, and the
  // same trial is the same file whatever the program has learned since.
  const auto settings =
      settings::SettingsForVersion(file.settings.values(), settings::RequiredSettingsVersion(file.settings.values()));
  io::Metadata metadata = {{kFormatKey, kFormat},
                           {"format", "pt"},  // what other readers of safetensors look for
                           {kSettingsKey, nlohmann::json(settings).dump()},
                           {kCellKey, nlohmann::json(file.cell).dump()},
                           {kSweepSeedKey, fmt::format("{}", file.sweep_seed)},
                           {kReplicateKey, fmt::format("{}", file.replicate)},
                           {kStepsKey, fmt::format("{}", file.steps)},
                           {kTrialKey, file.trial},
                           {kBaseKey, file.base_sha256},
                           {kProvenanceKey, nlohmann::json(file.provenance).dump()}};
  if (file.settings.Text("method.kind") == "lora") {
    metadata.merge(DiffusersLoraMetadata(LoraFileOf(file.arrays, file.settings)));
  }
  return io::WriteSafetensors(path, models::ToArrays(file.arrays).views, metadata);
}

bool IsAdapterFile(const std::string& path) {
  const auto opened = io::SafetensorsFile::Open(path);
  return opened.ok() && opened->metadata().contains(kFormatKey);
}

absl::StatusOr<AdapterFile> ReadAdapterFile(const std::string& path) {
  LOUPE_ASSIGN_OR_RETURN(const io::SafetensorsFile opened, io::SafetensorsFile::Open(path));
  MetadataReader reader(path, opened.metadata());
  AdapterFile file;
  const std::string format = reader.Text(kFormatKey);
  const auto settings = reader.Map(kSettingsKey);
  file.cell = reader.Map(kCellKey);
  file.sweep_seed = reader.Integer<uint64_t>(kSweepSeedKey);
  file.replicate = reader.Integer<int64_t>(kReplicateKey);
  file.steps = reader.Integer<int64_t>(kStepsKey);
  file.trial = reader.Text(kTrialKey);
  file.base_sha256 = reader.Text(kBaseKey);
  file.provenance = reader.Map(kProvenanceKey);
  LOUPE_RETURN_IF_ERROR(reader.status());
  if (format != kFormat) {
    return absl::InvalidArgumentError(fmt::format("{}: format '{}'; this version reads '{}'", path, format, kFormat));
  }
  auto parsed = settings::Settings::Create(
      settings,
      settings::SettingDefaults::OfVersion(settings::RequiredSettingsVersion({settings.begin(), settings.end()})));
  if (!parsed.ok()) return Annotate(parsed.status(), path);
  file.settings = *std::move(parsed);
  for (const auto& [name, view] : opened.arrays()) {
    file.arrays[name] = models::ToTensor(view);
    if (const std::string found = runtime::DescribeNotFinite(file.arrays[name]); !found.empty()) {
      return absl::InvalidArgumentError(fmt::format("{}: '{}': {}: the adapter is broken", path, name, found));
    }
  }
  return file;
}

}  // namespace loupe::worker::methods::files

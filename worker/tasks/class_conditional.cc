#include "worker/tasks/class_conditional.h"

#include <algorithm>
#include <map>
#include <utility>

#include "common/sha256.h"
#include "common/text.h"
#include "fmt/format.h"
#include "fmt/ranges.h"
#include "worker/data/captioned_folder.h"
#include "worker/runtime/user_error.h"
#include "worker/tasks/finetune.h"

namespace loupe::worker::tasks {
namespace {

std::string Spaced(std::string name) {
  std::replace_if(
      name.begin(), name.end(), [](char c) { return c == '-' || c == '_'; }, ' ');
  return name;
}

// Pictures and the name of each one's class.
struct ClassFolder {
  data::ImageFolder pictures;
  std::vector<std::string> classes;  // beside pictures.names
};

ClassFolder ReadClasses(const std::string& folder, int side, bool one_class) {
  auto captioned = data::ReadCaptionedFolder(folder, side);
  if (!captioned.ok() && one_class) {
    if (auto plain = data::ReadImageFolder(folder, side); plain.ok()) {
      ClassFolder found{*std::move(plain), {}};
      found.classes.assign(found.pictures.names.size(), "");
      return found;
    }
  }
  data::CaptionedFolder read = runtime::ValueOrThrow(std::move(captioned));
  ClassFolder found{std::move(read.pictures), std::move(read.captions)};
  // Of class folders the caption is a sentence about the folder's name.
  for (size_t i = 0; i < found.classes.size(); ++i) {
    const std::string& name = found.pictures.names[i];
    const size_t slash = name.find('/');
    if (slash != std::string::npos && found.classes[i] == "a photo of " + Spaced(name.substr(0, slash))) {
      found.classes[i] = name.substr(0, slash);
    }
  }
  return found;
}

class ClassConditionalTask : public CaptionedTask {
 public:
  ClassConditionalTask(const settings::Settings& settings, SharedInputs& inputs,
                       const sampling::SampleProgress& progress) {
    base::BaseModel& base = inputs.Base(settings);
    if (base.kind == io::BaseKind::kUNet) {
      throw runtime::UserError(
          fmt::format("{}: its prompts are texts; task.kind classes is for a base of classes (DiT, "
                      "DiffuSSM): use finetune",
                      base.folder));
    }
    const std::string& path = settings.Text("task.images");
    const bool one_class = base.classes.classes() == 1;
    const ClassFolder folder = ReadClasses(path, static_cast<int>(base.image_size()), one_class);
    data_sha256_ = Sha256Hex(fmt::format("{}\n{}", folder.pictures.content_hash, fmt::join(folder.classes, "\n")));
    picture_notes_ = folder.pictures.notes;

    std::map<std::string, int64_t> row_of;
    for (const std::string& name : folder.classes) row_of[name] = 0;
    std::vector<std::string> names;
    for (auto& [name, row] : row_of) {
      row = static_cast<int64_t>(names.size());
      names.push_back(name);
    }
    ClassesOfData matched;
    if (one_class) {
      matched.ids.assign(names.size(), 0);
    } else {
      auto found = MatchClasses(base.classes, names);
      if (!found.ok()) throw runtime::UserError(fmt::format("{}: {}", path, std::string(found.status().message())));
      matched = *std::move(found);
    }
    if (matched.by_order) {
      picture_notes_.push_back(fmt::format(
          "{}: the base knows none of its classes by name: its {} classes stand for the base's 0 to {}, in the order of "
          "their names",
          path, names.size(), names.size() - 1));
    }
    std::vector<std::string> prompts;
    for (const int64_t id : matched.ids) prompts.push_back(std::to_string(id));
    std::vector<int64_t> class_rows;
    std::vector<std::string> captions;
    for (const std::string& name : folder.classes) {
      class_rows.push_back(row_of.at(name));
      captions.push_back(prompts[static_cast<size_t>(class_rows.back())]);
      words_.push_back(name.empty() ? "a photo" : "a photo of " + Spaced(name));
    }
    Load(settings, inputs, folder.pictures, std::move(captions), prompts, class_rows, progress);
  }

  std::unique_ptr<TaskRun> Begin(const settings::Settings& settings, const TrialSeeds& seeds,
                                 SharedInputs& inputs) const override;

  // Beside the training pictures: their class for the scorer's text tower.
  const std::vector<std::string>& words() const { return words_; }

 private:
  std::vector<std::string> words_;
};

class ClassConditionalRun : public CaptionedRun {
 public:
  ClassConditionalRun(const ClassConditionalTask& task, const settings::Settings& settings, const TrialSeeds& seeds,
                      SharedInputs& inputs)
      : CaptionedRun(task, seeds) {
    std::vector<std::string> words;
    for (const int64_t index : ChoosePrompts(settings)) words.push_back(task.words()[static_cast<size_t>(index)]);
    references_.subject = task.subject();
    references_.texts = inputs.EmbedTexts(settings, words);
  }
};

std::unique_ptr<TaskRun> ClassConditionalTask::Begin(const settings::Settings& settings, const TrialSeeds& seeds,
                                                     SharedInputs& inputs) const {
  return std::make_unique<ClassConditionalRun>(*this, settings, seeds, inputs);
}

}  // namespace

absl::StatusOr<ClassesOfData> MatchClasses(const io::ClassNames& base, const std::vector<std::string>& names) {
  ClassesOfData matched;
  std::string unknown;
  for (const std::string& name : names) {
    auto found = base.Find(name);
    if (!found.ok()) found = base.Find(Spaced(name));
    // The null class is nobody's.
    if (found.ok() && *found < base.classes()) {
      matched.ids.push_back(*found);
    } else if (unknown.empty()) {
      unknown = name;
    }
  }
  if (matched.ids.size() == names.size()) return matched;
  if (!matched.ids.empty()) {
    return absl::InvalidArgumentError(fmt::format(
        "the base has classes of {} of the {} names, but none called '{}': rename the folders to the base's "
        "classes (model_index.json, id2label) or their numbers, or so that it knows none of them",
        matched.ids.size(), names.size(), Printable(unknown)));
  }
  if (static_cast<int64_t>(names.size()) > base.classes()) {
    return absl::InvalidArgumentError(
        fmt::format("has {} classes, more than the {} of the base", names.size(), base.classes()));
  }
  matched.by_order = true;
  for (size_t i = 0; i < names.size(); ++i) matched.ids.push_back(static_cast<int64_t>(i));
  return matched;
}

std::unique_ptr<const Task> MakeClassConditionalTask(const settings::Settings& settings, uint64_t /*sweep_seed*/,
                                                     SharedInputs& inputs, const sampling::SampleProgress& progress) {
  return std::make_unique<ClassConditionalTask>(settings, inputs, progress);
}

}  // namespace loupe::worker::tasks

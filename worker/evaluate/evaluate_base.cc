#include "worker/evaluate/evaluate_base.h"

#include <torch/utils.h>

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_replace.h"
#include "common/atomic_file.h"
#include "common/logging.h"
#include "fmt/format.h"
#include "worker/evaluate/evaluation_report.h"
#include "worker/evaluate/section.h"
#include "worker/executor/attached_adapter.h"
#include "worker/executor/failure_status.h"
#include "worker/pretrain/corpus.h"
#include "worker/pretrain/pictures.h"
#include "worker/runtime/random_stream.h"
#include "worker/sampling/picture_sampler.h"
#include "worker/tasks/tensor_conversion.h"

namespace loupe::worker::evaluate {
namespace {

// Two are aimed at, two are the reference.
constexpr size_t kLeastPictures = 4;

// What an item is asked for: by the base and, in words, by the scorer's text tower.
struct Asked {
  std::string prompt;
  std::string words;
};

class BaseEvaluator {
 public:
  explicit BaseEvaluator(const EvaluationRequest& request)
      : request_(request),
        opened_(request.base, /*adapter_path=*/"", request.device, request.threads),
        base_(opened_.base.model),
        viewers_(OpenViewers(request, opened_.models)) {
    if (request.items.empty() == request.pictures.empty()) {
      throw runtime::UserError("give either the list of emoji that the base was trained on or folders of pictures");
    }
    corpus_ = runtime::ValueOrThrow(request.pictures.empty() ? pretrain::Corpus::Read(request.items)
                                                             : pretrain::Corpus::ReadFolders(request.pictures));
    pictures_ = runtime::ValueOrThrow(pretrain::DrawPictures(request.font, corpus_, base_.image_size()));
  }

  Evaluation Run() {
    Evaluation evaluation{.base = request_.base,
                          .kind = std::string(io::BaseKindName(base_.kind)),
                          .base_sha256 = opened_.base.sha256,
                          .training_pictures = static_cast<int64_t>(corpus_.training.size()),
                          .seed = request_.seed,
                          .steps = request_.steps,
                          .guidance = request_.guidance};
    for (const Viewer& viewer : viewers_) evaluation.networks[viewer.name] = viewer.description;
    if (base_.kind != io::BaseKind::kUNet) {
      notes_.push_back(
          "A base of classes: its pictures are of the class of each picture aimed at, not of the picture's own caption; "
          "clip_t is against \"a photo of\" the class, for the real pictures too.");
    }

    const std::vector<data::EmojiItem> held_out = HeldOut();
    LookAtTraining();
    std::vector<Section> sections;
    sections.push_back(MakeSection("training", Askable(corpus_.training)));
    const std::vector<data::EmojiItem> askable = Askable(held_out);
    if (askable.size() >= kLeastPictures) {
      sections.push_back(MakeSection("held out", askable));
      const int64_t fewer = sections[1].count();
      if (fewer < sections[0].count()) {
        sections.insert(sections.begin() + 1, sections[0].Part("training, as many", fewer));
      }
    } else if (!held_out.empty()) {
      notes_.push_back(fmt::format("Of the {} pictures held out the base can be asked for {}: too few to measure.",
                                   held_out.size(), askable.size()));
    }
    for (const Section& section : sections) {
      evaluation.sections.push_back(runtime::ValueOrThrow(MeasureSection(section, viewers_, training_, notes_)));
      if (!request_.out.empty()) WriteSheet(section);
    }
    evaluation.notes = std::move(notes_);
    return evaluation;
  }

 private:
  // Pairs of known halves, where there are such; else all that is held out.
  std::vector<data::EmojiItem> HeldOut() {
    std::vector<data::EmojiItem> pairs;
    for (const data::EmojiItem& item : corpus_.held_out) {
      if (item.held_out == pretrain::kHeldOutPair) pairs.push_back(item);
    }
    has_pairs_ = !pairs.empty();
    return has_pairs_ ? pairs : corpus_.held_out;
  }

  // Those that the base has a prompt for: all, but for classes that it does not have.
  std::vector<data::EmojiItem> Askable(const std::vector<data::EmojiItem>& items) const {
    std::vector<data::EmojiItem> some;
    for (const data::EmojiItem& item : items) {
      if (base_.kind == io::BaseKind::kUNet || base_.classes.classes() == 1 || base_.classes.Find(item.subgroup).ok()) {
        some.push_back(item);
      }
    }
    return some;
  }

  Asked AskFor(const data::EmojiItem& item) const {
    if (base_.kind == io::BaseKind::kUNet) return {pretrain::MainCaption(item), pretrain::MainCaption(item)};
    if (base_.classes.classes() == 1) return {"0", "a photo"};
    return {std::to_string(*base_.classes.Find(item.subgroup)),
            "a photo of " + absl::StrReplaceAll(item.subgroup, {{"-", " "}, {"_", " "}})};
  }

  std::vector<io::Image> ImagesOf(const std::vector<data::EmojiItem>& items) const {
    return tasks::ImagesFromTensor(pretrain::PicturesOf(pictures_, items).permute({0, 2, 3, 1}).contiguous());
  }

  void LookAtTraining() {
    training_pictures_ = ImagesOf(corpus_.training);
    std::vector<data::EmojiItem> pairs;
    if (has_pairs_) pairs = HeldOut();
    const std::vector<io::Image> unseen = ImagesOf(pairs);
    for (const Viewer& viewer : viewers_) {
      LogInfo("{}: {} training pictures", viewer.name, training_pictures_.size());
      TrainingFeatures features{.training = viewer.Embed(training_pictures_), .expected = {}};
      features.expected =
          runtime::ValueOrThrow(has_pairs_ ? analysis::metrics::NearestRows(viewer.Embed(unseen), features.training)
                                           : analysis::metrics::NearestOtherRows(features.training));
      training_.push_back(std::move(features));
    }
    notes_.push_back(
        has_pairs_ ? fmt::format("nearest_distance_expected: of the {} pairs held out, from the training pictures.",
                                 unseen.size())
                   : fmt::format("nearest_distance_expected: of each of the {} training pictures, from the others.",
                                 training_pictures_.size()));
  }

  PictureSet Seen(std::string name, std::vector<io::Image> images) const {
    PictureSet set{std::move(name), std::move(images), {}};
    for (const Viewer& viewer : viewers_) set.features.push_back(viewer.Embed(set.images));
    return set;
  }

  Section MakeSection(const std::string& name, const std::vector<data::EmojiItem>& items) {
    if (items.size() < kLeastPictures) {
      throw runtime::UserError(fmt::format(
          "{}: {} pictures are too few: two are aimed at and two are the reference at least", name, items.size()));
    }
    const auto total = static_cast<int64_t>(items.size());
    const int64_t count = std::min(request_.count, total / 2);
    std::vector<data::EmojiItem> aimed, between;
    for (const int64_t place : EvenlyOf(total, 2 * count)) {
      auto& half = aimed.size() == between.size() ? aimed : between;
      half.push_back(items[static_cast<size_t>(place)]);
    }
    std::vector<std::string> prompts, words;
    for (const data::EmojiItem& item : aimed) {
      Asked asked = AskFor(item);
      prompts.push_back(std::move(asked.prompt));
      words.push_back(std::move(asked.words));
    }
    Section section{.name = name, .own_pictures = base_.kind == io::BaseKind::kUNet};
    section.real = Seen("real", ImagesOf(aimed));
    section.reference = Seen("reference", ImagesOf(between));
    section.autoencoder = Seen("autoencoder", Rebuilt(section.real.images));
    sampling::SampleOptions options;
    options.steps = request_.steps;
    options.guidance = base_.classes.classes() == 1 ? 1 : request_.guidance;
    const torch::Tensor noise = runtime::RandomStream(request_.seed).Normal(sampling::NoiseShape(base_, count));
    int64_t said = 0;
    section.base =
        Seen("base", sampling::SamplePictures(base_, prompts, noise, options, [&](int64_t done, int64_t calls) {
               if (done * 10 / calls == said) return;
               said = done * 10 / calls;
               LogInfo("{}: {} of {} network calls", name, done, calls);
             }));
    auto scorer = opened_.models.Scorer(request_.scorer).model;
    section.texts = tasks::FeaturesFromTensor(scorer.EmbedTexts(words));
    section.captions = std::move(words);
    return section;
  }

  std::vector<io::Image> Rebuilt(const std::vector<io::Image>& images) {
    std::vector<io::Image> rebuilt;
    for (const torch::Tensor& part : tasks::PicturesFromImages(images).split(8)) {
      for (io::Image& image : base::ImagesFromPictures(base_.DecodeLatents(base_.EncodePictures(part)))) {
        rebuilt.push_back(std::move(image));
      }
    }
    return rebuilt;
  }

  void WriteSheet(const Section& section) const {
    if (section.name == "training, as many") return;
    const std::string file = absl::StrReplaceAll(section.name, {{" ", "-"}}) + ".png";
    runtime::ThrowIfError(io::WritePng(fmt::format("{}/{}", request_.out, file),
                                       SectionSheet(section, training_.front(), training_pictures_)));
  }

  const EvaluationRequest& request_;
  executor::OpenedBase opened_;
  base::BaseModel& base_;
  const std::vector<Viewer> viewers_;
  pretrain::Corpus corpus_;
  torch::Tensor pictures_;  // uint8 [all, 3, S, S]
  bool has_pairs_ = false;
  std::vector<io::Image> training_pictures_;
  std::vector<TrainingFeatures> training_;  // beside viewers_
  std::vector<std::string> notes_;
};

}  // namespace

absl::StatusOr<Evaluation> EvaluateBase(const EvaluationRequest& request) {
  Evaluation evaluation;
  const absl::Status status = executor::StatusOfThrown([&] {
    if (!request.out.empty()) {
      std::error_code error;
      std::filesystem::create_directories(request.out, error);
      if (error) throw runtime::UserError(fmt::format("{}: cannot be made ({})", request.out, error.message()));
    }
    evaluation = BaseEvaluator(request).Run();
    if (request.out.empty()) return;
    runtime::ThrowIfError(WriteFileAtomically(request.out + "/evaluation.json", EvaluationJson(evaluation)));
    runtime::ThrowIfError(WriteFileAtomically(request.out + "/evaluation.md", EvaluationMarkdown(evaluation)));
  });
  if (!status.ok()) return status;
  return evaluation;
}

}  // namespace loupe::worker::evaluate

#include "worker/evaluate/section.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "analysis/metrics/cosine_similarity.h"
#include "analysis/metrics/embedding_mmd.h"
#include "analysis/metrics/frechet_distance.h"
#include "analysis/metrics/kernel_distance.h"
#include "analysis/metrics/precision_recall.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "worker/runtime/user_error.h"
#include "worker/sampling/picture_sampler.h"

namespace loupe::worker::evaluate {
namespace {

using analysis::metrics::FeatureMatrix;

constexpr int64_t kNeighbourhood = 3;
constexpr size_t kSheetRow = 10, kSheetRows = 3;

FeatureMatrix RowsAt(const FeatureMatrix& from, const std::vector<int64_t>& rows) {
  FeatureMatrix taken{static_cast<int64_t>(rows.size()), from.cols, {}};
  for (const int64_t row : rows) {
    const auto values = from.Row(row);
    taken.values.insert(taken.values.end(), values.begin(), values.end());
  }
  return taken;
}

PictureSet PicturesAt(const PictureSet& from, const std::vector<int64_t>& rows) {
  PictureSet taken{from.name, {}, {}};
  for (const int64_t row : rows) taken.images.push_back(from.images[static_cast<size_t>(row)]);
  for (const FeatureMatrix& features : from.features) taken.features.push_back(RowsAt(features, rows));
  return taken;
}

void AddNote(const std::string& note, std::vector<std::string>& notes) {
  if (!note.empty() && std::find(notes.begin(), notes.end(), note) == notes.end()) notes.push_back(note);
}

// From the reference, which shares no picture with the set.
absl::Status AddDistances(const FeatureMatrix& features, const FeatureMatrix& reference, const Viewer& viewer,
                          std::map<std::string, double>& values, std::vector<std::string>& notes) {
  if (features.rows < 2) return absl::OkStatus();
  LOUPE_ASSIGN_OR_RETURN(const auto frechet, analysis::metrics::ComputeFrechetDistance(features, reference));
  LOUPE_ASSIGN_OR_RETURN(const auto kernel, analysis::metrics::ComputeKernelDistance(features, reference));
  values[viewer.frechet] = frechet.value;
  values[viewer.prefix + "kid"] = kernel.mean;
  LOUPE_ASSIGN_OR_RETURN(values[viewer.prefix + "cmmd"], analysis::metrics::ComputeCmmd(features, reference));
  if (frechet.few_samples) AddNote(fmt::format("{}: {}", viewer.frechet, frechet.warning), notes);
  if (features.rows > kNeighbourhood) {
    LOUPE_ASSIGN_OR_RETURN(const auto coverage,
                           analysis::metrics::ComputePrecisionRecall(features, reference, kNeighbourhood));
    values[viewer.prefix + "precision"] = coverage.precision;
    values[viewer.prefix + "recall"] = coverage.recall;
  }
  return absl::OkStatus();
}

absl::Status AddNearest(const FeatureMatrix& features, const TrainingFeatures& training, const Viewer& viewer,
                        std::map<std::string, double>& values, std::vector<std::string>& notes) {
  LOUPE_ASSIGN_OR_RETURN(const auto nearest, analysis::metrics::NearestRows(features, training.training));
  LOUPE_ASSIGN_OR_RETURN(const auto found, analysis::metrics::CompareNearest(nearest, training.expected));
  const std::string name = viewer.prefix + "nearest_distance";
  values[name] = found.generated;
  values[name + "_expected"] = found.expected;
  values[name + "_ratio"] = found.ratio;
  if (std::isfinite(found.ratio_error)) values[name + "_ratio_error"] = found.ratio_error;
  values[name + "_nearer"] = found.nearer;
  AddNote(found.warning, notes);
  return absl::OkStatus();
}

double Psnr(const std::vector<io::Image>& a, const std::vector<io::Image>& b) {
  double sum_sq = 0, values = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    for (size_t j = 0; j < a[i].rgb.size(); ++j) {
      const double difference = static_cast<double>(a[i].rgb[j]) - static_cast<double>(b[i].rgb[j]);
      sum_sq += difference * difference;
    }
    values += static_cast<double>(a[i].rgb.size());
  }
  // Equal pictures have no finite one; a half of a grey level's square over all values stands for "less than can be
  // told".
  return 10 * std::log10(255.0 * 255.0 / std::max(sum_sq / values, 0.5 / values));
}

}  // namespace

std::vector<int64_t> EvenlyOf(int64_t total, int64_t count) {
  std::vector<int64_t> places;
  for (int64_t i = 0; i < std::min(count, total); ++i) places.push_back(i * total / std::min(count, total));
  return places;
}

Section Section::Part(const std::string& part_name, int64_t pictures) const {
  const std::vector<int64_t> rows = EvenlyOf(count(), pictures);
  std::vector<std::string> asked;
  asked.reserve(rows.size());
  for (const int64_t row : rows) asked.push_back(captions[static_cast<size_t>(row)]);
  return {.name = part_name,
          .real = PicturesAt(real, rows),
          .autoencoder = PicturesAt(autoencoder, rows),
          .base = PicturesAt(base, rows),
          .reference = PicturesAt(reference, rows),
          .captions = std::move(asked),
          .texts = RowsAt(texts, rows),
          .own_pictures = own_pictures};
}

absl::StatusOr<EvaluatedSection> MeasureSection(const Section& section, const std::vector<Viewer>& viewers,
                                                const std::vector<TrainingFeatures>& training,
                                                std::vector<std::string>& notes) {
  EvaluatedSection measured{section.name, section.count(), section.captions, {}};
  for (const PictureSet* set : {&section.real, &section.autoencoder, &section.base}) {
    SetScores scores{set->name, {}};
    const bool own_pictures = set != &section.real && (set == &section.autoencoder || section.own_pictures);
    for (size_t i = 0; i < viewers.size(); ++i) {
      const Viewer& viewer = viewers[i];
      const FeatureMatrix& features = set->features[i];
      // Inception's scores, as published, have none.
      if (own_pictures && !viewer.prefix.empty()) {
        LOUPE_ASSIGN_OR_RETURN(scores.values[viewer.prefix + "i"],
                               analysis::metrics::MeanMatchedCosine(features, section.real.features[i]));
      }
      LOUPE_RETURN_IF_ERROR(AddDistances(features, section.reference.features[i], viewer, scores.values, notes));
      LOUPE_RETURN_IF_ERROR(AddNearest(features, training[i], viewer, scores.values, notes));
      if (features.rows < 2) continue;
      LOUPE_ASSIGN_OR_RETURN(const double within, analysis::metrics::MeanCosineWithin(features));
      scores.values[viewer.prefix + "diversity"] = 1 - within;
      if (viewer.network.layers) scores.values[viewer.prefix + "layer_diversity"] = viewer.Diversity(set->images);
    }
    LOUPE_ASSIGN_OR_RETURN(scores.values["clip_t"],
                           analysis::metrics::MeanMatchedCosine(set->features.front(), section.texts));
    if (set == &section.autoencoder) scores.values["psnr"] = Psnr(set->images, section.real.images);
    measured.sets.push_back(std::move(scores));
  }
  return measured;
}

io::Image SectionSheet(const Section& section, const TrainingFeatures& training,
                       const std::vector<io::Image>& training_pictures) {
  const auto places = EvenlyOf(section.count(), static_cast<int64_t>(kSheetRow * kSheetRows));
  const auto nearest =
      runtime::ValueOrThrow(analysis::metrics::NearestRows(section.base.features.front(), training.training));
  std::vector<io::Image> grid;
  for (size_t first = 0; first < places.size(); first += kSheetRow) {
    const size_t end = std::min(places.size(), first + kSheetRow);
    const auto add_row = [&](const auto& picture_at) {
      for (size_t i = first; i < end; ++i) grid.push_back(picture_at(static_cast<size_t>(places[i])));
      // The last row may be short: white fills it, so that the rows stay under each other.
      const io::Image& last = grid.back();
      io::Image white{last.width, last.height, std::vector<uint8_t>(last.rgb.size(), 255)};
      while (grid.size() % kSheetRow != 0 && places.size() > kSheetRow) grid.push_back(white);
    };
    add_row([&](size_t i) { return section.real.images[i]; });
    add_row([&](size_t i) { return section.base.images[i]; });
    add_row([&](size_t i) { return training_pictures[static_cast<size_t>(nearest[i].row)]; });
  }
  return sampling::MakeGrid(grid, static_cast<int>(std::min(places.size(), kSheetRow)));
}

}  // namespace loupe::worker::evaluate

// One section of an evaluation: pictures aimed at, what a base makes of their captions, and what is measured of both.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "analysis/metrics/nearest_distance.h"
#include "worker/evaluate/evaluate_base.h"
#include "worker/evaluate/viewer.h"

namespace loupe::worker::evaluate {

// Of one network, over all pictures that a base was trained on.
struct TrainingFeatures {
  analysis::metrics::FeatureMatrix training;
  // Distances that pictures have from the nearest training picture though they are no copies.
  std::vector<analysis::metrics::NearestRow> expected;
};

// One set of pictures and, beside Viewer's, its features, a row to a picture.
struct PictureSet {
  std::string name;
  std::vector<io::Image> images;
  std::vector<analysis::metrics::FeatureMatrix> features;
};

struct Section {
  std::string name;
  PictureSet real, autoencoder, base;      // in the order of the captions
  PictureSet reference;                    // as many other real pictures
  std::vector<std::string> captions;       // what each picture is asked for, in words
  analysis::metrics::FeatureMatrix texts;  // of them, by the scorer's text tower
  bool own_pictures = true;                // whether a caption means its picture, and not a class of them

  int64_t count() const { return static_cast<int64_t>(real.images.size()); }
  // So many of its pictures, evenly.
  Section Part(const std::string& part_name, int64_t pictures) const;
};

// `count` of `total` places, evenly: 0, total/count, ….
std::vector<int64_t> EvenlyOf(int64_t total, int64_t count);

// Scores of the three sets by each network, `training` beside `viewers`. `notes` are added to. Errors as the metrics.
absl::StatusOr<EvaluatedSection> MeasureSection(const Section& section, const std::vector<Viewer>& viewers,
                                                const std::vector<TrainingFeatures>& training,
                                                std::vector<std::string>& notes);

// Real pictures, what the base made of their captions, and the training picture nearest to that by the first network:
// up to 30 of them, ten to a row.
io::Image SectionSheet(const Section& section, const TrainingFeatures& training,
                       const std::vector<io::Image>& training_pictures);

}  // namespace loupe::worker::evaluate

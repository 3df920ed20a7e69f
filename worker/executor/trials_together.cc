// What trials that share their passes do together when they do not train: validation losses, pictures, their features,
// the noise that is predicted for two prompts. Idle slots repeat the last trial's work, and calls are filled up, so
// that the shapes of all operators, and with them what each trial gets, do not depend on who else is there.
#include <algorithm>
#include <chrono>
#include <iterator>
#include <numeric>
#include <utility>

#include "worker/executor/trial.h"
#include "worker/runtime/finite.h"

namespace loupe::worker::executor {
namespace {

template <typename T>
std::vector<T> Widened(std::vector<T> of_trials, int64_t width) {
  of_trials.resize(std::max(of_trials.size(), static_cast<size_t>(width)), T(of_trials.back()));
  return of_trials;
}

analysis::metrics::FeatureMatrix RowsOf(const analysis::metrics::FeatureMatrix& all, int64_t first, int64_t count) {
  const auto begin = all.values.begin() + first * all.cols;
  return {count, all.cols, {begin, begin + count * all.cols}};
}

}  // namespace

std::vector<double> Trial::ValidationLosses(const std::vector<Trial*>& trials, int64_t width) {
  const PhaseTime time(trials, "train");
  if (width == 0) return {trials.front()->Validate()};
  std::vector<const train::ValidationRows*> rows;
  rows.reserve(trials.size());
  for (const Trial* trial : trials) rows.push_back(&*trial->validation_);
  std::vector<double> losses = train::ValidationLosses(trials.front()->loaded_.model, Widened(std::move(rows), width));
  losses.resize(trials.size());
  return losses;
}

// Nothing of it is drawn from training's streams.
void Trial::ScoreAlongTheWay(const std::vector<Trial*>& trials, int64_t width) {
  const PhaseTime time(trials, "train");
  std::vector<tasks::Wanted::Pictures> wanted;
  wanted.reserve(trials.size());
  for (const Trial* trial : trials) wanted.push_back(trial->ScoredPictures());
  const auto features = Features(trials, width, Sample(trials, width, wanted));
  for (size_t i = 0; i < trials.size(); ++i) trials[i]->training_->TakeScores(trials[i]->Scores(features[i]).values);
}

std::vector<Trial::Looks> Trial::Look(const std::vector<Trial*>& trials, int64_t width) {
  std::vector<tasks::Wanted::Pictures> scored, wanted;
  std::vector<sampling::DifferenceOrder> differences;
  for (Trial* trial : trials) {
    if (width > 0) trial->NotePassWidth(width);
    scored.push_back(trial->ScoredPictures());
    tasks::Wanted its = trial->run_->Wants();
    if (its.pictures) wanted.push_back(*std::move(its.pictures));
    if (its.difference) differences.push_back(*std::move(its.difference));
  }
  std::vector<std::vector<io::Image>> pictures;
  {
    const PhaseTime time(trials, "sample");
    pictures = Sample(trials, width, scored);
  }
  const PhaseTime time(trials, "score");
  const auto features = Features(trials, width, pictures);
  std::vector<score::PictureFeatures> own_features(trials.size());
  if (!wanted.empty()) own_features = Features(trials, width, Sample(trials, width, wanted));
  std::vector<torch::Tensor> own_differences(trials.size());
  if (!differences.empty()) {
    own_differences =
        sampling::PredictionDifferences(trials.front()->loaded_.model, Widened(std::move(differences), width));
  }
  std::vector<Looks> looks;
  for (size_t i = 0; i < trials.size(); ++i) {
    looks.push_back({std::move(pictures[i]), features[i], {own_features[i], own_differences[i]}});
  }
  return looks;
}

std::vector<std::vector<io::Image>> Trial::Sample(const std::vector<Trial*>& trials, int64_t width,
                                                  const std::vector<tasks::Wanted::Pictures>& wanted) {
  const auto start = std::chrono::steady_clock::now();
  Trial& first = *trials.front();
  std::vector<tasks::PictureOrder> orders;
  for (size_t i = 0; i < trials.size(); ++i) {
    orders.push_back({.prompts = wanted[i].prompts,
                      .noise_seed = trials[i]->seeds_(wanted[i].noise),
                      .drawn = wanted[i].count,
                      .count = wanted[i].count});
  }
  const auto progress = [&](int64_t done, int64_t total) {
    for (Trial* trial : trials) trial->Progress("sample")(done, total);
  };
  std::vector<std::vector<io::Image>> pictures;
  try {
    if (width == 0) {
      pictures = {first.inputs_.Sample(first.settings_, orders.front(), progress)};
    } else {
      pictures = first.inputs_.SampleSlots(first.settings_, Widened(std::move(orders), width), progress);
    }
  } catch (const runtime::NotFinite& error) {
    if (trials.size() > 1) throw;
    // The untuned base has sampled the same before.
    throw DivergedError(first.settings_, error.what());
  }
  pictures.resize(trials.size());
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  for (Trial* trial : trials) {
    trial->meter_.AddPictures(wanted.front().count, seconds / static_cast<double>(trials.size()));
  }
  return pictures;
}

std::vector<score::PictureFeatures> Trial::Features(const std::vector<Trial*>& trials, int64_t width,
                                                    const std::vector<std::vector<io::Image>>& pictures) {
  const Trial& first = *trials.front();
  if (width == 0) return {first.inputs_.Features(first.settings_, pictures.front())};
  std::vector<io::Image> all;
  for (const std::vector<io::Image>& its : pictures) all.insert(all.end(), its.begin(), its.end());
  // The networks that score know no trials: it is enough that each of their calls has as many pictures.
  int64_t part = tasks::SharedInputs::PartOf(tasks::kScorerNetwork);
  for (const base::PictureNetworkKind& kind : base::PictureNetworkKinds()) {
    if (first.settings_.Has(kind.setting)) part = std::lcm(part, tasks::SharedInputs::PartOf(kind.name));
  }
  all.resize(static_cast<size_t>((std::ssize(all) + part - 1) / part * part), io::Image(all.back()));
  const score::PictureFeatures of_all = first.inputs_.Features(first.settings_, all);
  const auto count = std::ssize(pictures.front());
  std::vector<score::PictureFeatures> features;
  for (int64_t i = 0; i < std::ssize(trials); ++i) {
    score::PictureFeatures& its = features.emplace_back();
    its.clip = RowsOf(of_all.clip, i * count, count);
    for (const auto& [name, rows] : of_all.others) its.others[name] = RowsOf(rows, i * count, count);
  }
  return features;
}

}  // namespace loupe::worker::executor

#include "worker/evaluate/evaluation_report.h"

#include <algorithm>
#include <cmath>
#include <string_view>

#include "fmt/format.h"
#include "nlohmann/json.hpp"

namespace loupe::worker::evaluate {
namespace {

// In this order, whatever the prefix; psnr and clip_t, of no single network's set, come last.
constexpr std::string_view kOrder[] = {"fid",
                                       "fd",
                                       "kid",
                                       "cmmd",
                                       "precision",
                                       "recall",
                                       "nearest_distance",
                                       "nearest_distance_expected",
                                       "nearest_distance_ratio",
                                       "nearest_distance_ratio_error",
                                       "nearest_distance_nearer",
                                       "diversity",
                                       "layer_diversity",
                                       "t",
                                       "i",
                                       "psnr"};

std::vector<std::string> RowsOfTable(const Evaluation& evaluation) {
  std::vector<std::string> prefixes;
  std::vector<std::string> rows;
  const auto known = [&](const std::string& name) {
    for (const EvaluatedSection& section : evaluation.sections) {
      for (const SetScores& set : section.sets) {
        if (set.values.count(name) > 0) return true;
      }
    }
    return false;
  };
  for (const auto& [network, description] : evaluation.networks) prefixes.push_back(network + "_");
  prefixes.emplace_back("");  // Inception's, as published
  for (const std::string& prefix : prefixes) {
    for (const std::string_view score : kOrder) {
      const std::string name = prefix + std::string(score);
      if (known(name)) rows.push_back(name);
    }
  }
  return rows;
}

std::string Number(double value) {
  const double size = std::abs(value);
  return size >= 100  ? fmt::format("{:.0f}", value)
         : size >= 10 ? fmt::format("{:.1f}", value)
                      : fmt::format("{:.3f}", value);
}

}  // namespace

std::string EvaluationMarkdown(const Evaluation& evaluation) {
  std::string text = fmt::format("{} ({}), SHA-256 {}: {} steps, guidance {}, seed {}; {} training pictures\n\n|",
                                 evaluation.base, evaluation.kind, evaluation.base_sha256, evaluation.steps,
                                 evaluation.guidance, evaluation.seed, evaluation.training_pictures);
  std::string rule = "\n|---|";
  for (const EvaluatedSection& section : evaluation.sections) {
    for (const SetScores& set : section.sets) {
      text += fmt::format(" | {} ({}): {}", section.name, section.count, set.name);
      rule += "---|";
    }
  }
  text += " |" + rule + "\n";
  for (const std::string& row : RowsOfTable(evaluation)) {
    text += fmt::format("| `{}`", row);
    for (const EvaluatedSection& section : evaluation.sections) {
      for (const SetScores& set : section.sets) {
        const auto found = set.values.find(row);
        text += found == set.values.end() ? " | " : " | " + Number(found->second);
      }
    }
    text += " |\n";
  }
  text += "\n";
  for (const auto& [name, description] : evaluation.networks) text += fmt::format("- `{}`: {}\n", name, description);
  for (const std::string& note : evaluation.notes) text += fmt::format("- {}\n", note);
  return text;
}

std::string EvaluationJson(const Evaluation& evaluation) {
  nlohmann::ordered_json sections = nlohmann::ordered_json::array();
  for (const EvaluatedSection& section : evaluation.sections) {
    nlohmann::ordered_json sets = nlohmann::ordered_json::object();
    for (const SetScores& set : section.sets) sets[set.name] = set.values;
    sections.push_back(
        {{"name", section.name}, {"count", section.count}, {"sets", std::move(sets)}, {"captions", section.captions}});
  }
  const nlohmann::ordered_json json = {{"base", evaluation.base},
                                       {"kind", evaluation.kind},
                                       {"base_sha256", evaluation.base_sha256},
                                       {"networks", evaluation.networks},
                                       {"training_pictures", evaluation.training_pictures},
                                       {"seed", evaluation.seed},
                                       {"steps", evaluation.steps},
                                       {"guidance", evaluation.guidance},
                                       {"sections", std::move(sections)},
                                       {"notes", evaluation.notes}};
  return json.dump(2) + "\n";
}

}  // namespace loupe::worker::evaluate

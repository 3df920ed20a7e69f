#include "cli/plan_view.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "analysis/report/number_format.h"
#include "analysis/report/text_table.h"
#include "cli/run_order.h"
#include "cli/time_text.h"
#include "cli/views.h"
#include "common/text.h"
#include "fmt/format.h"
#include "fmt/ranges.h"
#include "nlohmann/json.hpp"

namespace loupe::cli {
namespace {

using nlohmann::ordered_json;

constexpr size_t kWidth = 98;
// Pairs of the alias table that the text shows; JSON lists all.
constexpr size_t kAliasesShown = 10;
constexpr size_t kPairsNamed = 6;

std::string Plural(int64_t count, std::string_view noun) {
  return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

std::string PowerLegend(const PlanView& view) {
  const PowerQuestion& question = view.question;
  std::string text = fmt::format(
      "min. f, min. Δ: the smallest effect that the F test at the level {} finds with probability {}, as Cohen's f and "
      "as the distance of two level means in σ, the standard deviation of one trial's score about the model{}, for the pair that "
      "is hardest to tell apart. power: the "
      "probability of finding f = {}. replicates: how many would find that f with probability {}.",
      question.alpha, question.power,
      view.sigma ? fmt::format(" (in brackets: in units of the score, with the given σ = {})", *view.sigma) : "",
      question.effect, question.power);
  return analysis::report::WrapText(text, kWidth, "  ", "  ");
}

std::string TermTable(const PlanView& view) {
  const coordinator::plan::PlanOutlook& outlook = view.outlook;
  analysis::report::TextTable table({"term", "levels", "df", "aliased df", "min. f", "min. Δ", "power", "replicates"});
  for (const coordinator::plan::TermOutlook& term : outlook.terms) {
    const EffectPower power = PowerOfTerm(*view.plan, outlook, term, view.question);
    std::string difference = analysis::report::FormatNumber(power.detectable_difference, 2);
    if (view.sigma && std::isfinite(power.detectable_difference)) {
      difference += fmt::format(" ({})", analysis::report::FormatNumber(power.detectable_difference * *view.sigma, 2));
    }
    table.Add({term.title(), fmt::format("{}", term.levels), fmt::format("{}", term.df),
               fmt::format("{}", term.aliased_df()), analysis::report::FormatNumber(power.detectable_f, 2), difference,
               std::isfinite(power.power) ? fmt::format("{:.2f}", power.power) : "–",
               power.replicates_needed > 0 ? fmt::format("{}", power.replicates_needed) : "–"});
  }
  if (outlook.block_df > 0) {
    table.Add({"replicate (block)", fmt::format("{}", outlook.block_df + 1), fmt::format("{}", outlook.block_df), "",
               "", "", "", ""});
  }
  table.Add({"residual", "", fmt::format("{}", outlook.residual_df), "", "", "", "", ""});
  return table.Text();
}

// Which pair min. Δ is of where it matters, and which pairs no trial of this plan can tell apart.
std::string PairsNote(const coordinator::plan::TermOutlook& term) {
  std::string text;
  if (term.pairs_differ) {
    text = fmt::format("{}: min. Δ is that of {} and {}; other pairs are easier to tell apart.", term.title(),
                       term.hardest_pair.first, term.hardest_pair.second);
  }
  if (term.not_estimable.empty()) return text;
  std::vector<std::string> names;
  for (const auto& [first, second] : term.not_estimable) {
    if (names.size() == kPairsNamed) break;
    names.push_back(fmt::format("{} − {}", first, second));
  }
  const size_t more = term.not_estimable.size() - names.size();
  return text + fmt::format("{}{} of {} differences between levels will not be estimable: {}{}.",
                            text.empty() ? term.title() + ": " : " ", term.not_estimable.size(), term.pairs,
                            fmt::join(names, ", "),
                            more > 0 ? fmt::format(" and {} more (--format json has all)", more) : "");
}

// What each method of a comparison brings: "  lora: 4 cells, varying rank and targets".
std::string MethodsText(const coordinator::plan::Plan& plan) {
  std::string text;
  const std::vector<coordinator::plan::MethodSpec>& methods = plan.spec().methods;
  std::vector<int64_t> cells(methods.size());
  for (int64_t cell = 0; cell < plan.cell_count() && !methods.empty(); ++cell) ++cells[plan.LevelIndex(cell, 0)];
  for (size_t m = 0; m < methods.size(); ++m) {
    std::vector<std::string> own;
    for (size_t f = 0; f < plan.factors().size(); ++f) {
      if (plan.factors()[f].within == methods[m].label) own.push_back(plan.FactorName(f));
    }
    text += fmt::format("  {}: {}{}\n", methods[m].label, Plural(cells[m], "cell"),
                        own.empty() ? "" : fmt::format(", varying {} of its own", fmt::join(own, ", ")));
  }
  return text;
}

std::string CellsText(const coordinator::plan::Plan& plan) {
  std::string text = "\nCells\n";
  for (int64_t cell = 0; cell < plan.cell_count(); ++cell) {
    text += CellLine(plan, cell);
  }
  return text;
}

std::string RunOrderSentence(const coordinator::plan::Plan& plan) {
  return fmt::format(
      "Run order: {}in a random order that the seed ({}) fixes, so that no factor goes with time; the coordinator "
      "keeps to "
      "it, and runs trials that come back first. --list-cells with --format json, or --write FILE.csv, gives it.",
      plan.spec().replicates > 1 ? "replicate by replicate, within each the cells " : "the cells ", plan.spec().seed);
}

// A number that JSON has no word for is null.
ordered_json NumberOrNull(double value) { return std::isfinite(value) ? ordered_json(value) : ordered_json(); }

ordered_json TermJson(const PlanView& view, const coordinator::plan::TermOutlook& term) {
  const EffectPower power = PowerOfTerm(*view.plan, view.outlook, term, view.question);
  ordered_json json = {{"term", term.term},
                       {"within", term.within.empty() ? ordered_json() : ordered_json(term.within)},
                       {"levels", term.levels},
                       {"df", term.df},
                       {"nominal_df", term.nominal_df},
                       {"aliased_df", term.aliased_df()},
                       {"detectable_f", NumberOrNull(power.detectable_f)},
                       {"detectable_difference_sd", NumberOrNull(power.detectable_difference)},
                       {"hardest_pair", nullptr},
                       {"pairs", term.pairs},
                       {"not_estimable_pairs", ordered_json::array()},
                       {"power", NumberOrNull(power.power)},
                       {"replicates_needed", nullptr},
                       {"note", term.note}};
  if (!term.hardest_pair.first.empty()) json["hardest_pair"] = {term.hardest_pair.first, term.hardest_pair.second};
  for (const auto& [first, second] : term.not_estimable) json["not_estimable_pairs"].push_back({first, second});
  if (power.replicates_needed > 0) json["replicates_needed"] = power.replicates_needed;
  return json;
}

ordered_json SubsetJson(const PlanView& view) {
  const analysis::stats::Fraction& fraction = *view.subset;
  ordered_json json = {{"method", fraction.method},
                       {"candidate_cells", view.candidate_cells},
                       {"d_efficiency", fraction.quality.d_efficiency},
                       {"notes", fraction.sentences},
                       {"aliases", ordered_json::array()}};
  for (const analysis::stats::AliasEntry& alias : fraction.quality.aliases) {
    json["aliases"].push_back({{"omitted", alias.omitted}, {"term", alias.term}, {"share", alias.share}});
  }
  return json;
}

}  // namespace

std::string CellLine(const coordinator::plan::Plan& plan, int64_t cell) {
  std::string text = fmt::format("  {}:", cell);
  for (size_t f = 0; f < plan.factors().size(); ++f) {
    if (plan.LevelIndex(cell, f) == coordinator::plan::Plan::kAbsent) continue;
    text += fmt::format(" {}={}", plan.FactorName(f), plan.Level(cell, f));
  }
  return text + "\n";
}

std::string ChosenText(const analysis::stats::Fraction& fraction, int64_t candidates) {
  std::string text =
      fmt::format("\nChosen cells: {} of {} ({})\n", fraction.chosen.size(), candidates, fraction.method);
  const double efficiency = fraction.quality.d_efficiency;
  if (efficiency > 0) {
    text += fmt::format(
        "  D-efficiency {:.3f} (1: each chosen cell tells as much of the model as one of the whole design)\n",
        efficiency);
  }
  // The first sentence says again what stands above.
  for (size_t i = 1; i < fraction.sentences.size(); ++i) {
    text += analysis::report::WrapText(fraction.sentences[i], kWidth, "  - ", "    ");
  }
  const std::vector<analysis::stats::AliasEntry>& aliases = fraction.quality.aliases;
  if (aliases.empty()) return text;
  text += "\nAliases: where an interaction that is not in the model would show up, if it is real\n\n";
  analysis::report::TextTable table({"interaction", "shows up in", "share of it"}, /*left_columns=*/2);
  for (size_t i = 0; i < std::min(aliases.size(), kAliasesShown); ++i) {
    table.Add({aliases[i].omitted, aliases[i].term, fmt::format("{:.0f} %", 100 * aliases[i].share)});
  }
  text += table.Text();
  if (aliases.size() > kAliasesShown) {
    text += fmt::format("  and {} more pairs with smaller shares (--format json lists them)\n",
                        aliases.size() - kAliasesShown);
  }
  return text;
}

std::string PlanText(const PlanView& view) {
  const coordinator::plan::Plan& plan = *view.plan;
  std::string text = fmt::format("{}: {} × {} = {}\n", view.sweep_id, Plural(plan.cell_count(), "cell"),
                                 Plural(plan.spec().replicates, "replicate"), Plural(plan.trial_count(), "trial"));
  text += MethodsText(plan);
  if (view.outlook.has_terms) text += fmt::format("\n{}{}", TermTable(view), PowerLegend(view));
  std::vector<std::string> notes;
  for (const coordinator::plan::TermOutlook& term : view.outlook.terms) {
    if (!term.note.empty()) notes.push_back(fmt::format("{}: {}", term.title(), term.note));
    if (std::string pairs = PairsNote(term); !pairs.empty()) notes.push_back(std::move(pairs));
  }
  notes.insert(notes.end(), view.outlook.notes.begin(), view.outlook.notes.end());
  if (!notes.empty()) text += "\nNotes\n";
  for (const std::string& note : notes) text += analysis::report::WrapText(note, kWidth, "  - ", "    ");
  if (view.subset.has_value()) text += ChosenText(*view.subset, view.candidate_cells);
  text += fmt::format("\n{}", analysis::report::WrapText(RunOrderSentence(plan), kWidth, "", "  "));
  if (view.estimate.has_value()) {
    text += fmt::format("\nEstimated time: {} on {} ({} per trial)\n", TimeText(view.estimate->seconds),
                        Plural(view.estimate->workers, "worker"), TimeText(view.estimate->seconds_per_trial));
    text += analysis::report::WrapText("Basis: " + view.estimate->basis + ".", kWidth, "  ", "  ");
  }
  if (view.list_cells) text += CellsText(plan);
  return text;
}

std::string PlanJson(const PlanView& view) {
  const coordinator::plan::Plan& plan = *view.plan;
  ordered_json json;
  json["sweep"] = view.sweep_id;
  json["cells"] = plan.cell_count();
  json["replicates"] = plan.spec().replicates;
  json["trials"] = plan.trial_count();
  json["factors"] = ordered_json::array();
  for (size_t f = 0; f < plan.factors().size(); ++f) {
    const coordinator::plan::SweepFactor& factor = plan.factors()[f];
    ordered_json& added = json["factors"].emplace_back(
        ordered_json{{"name", plan.FactorName(f)}, {"key", factor.key}, {"levels", factor.levels}});
    if (!factor.within.empty()) added["within"] = factor.within;
  }
  json["power"] = {{"alpha", view.question.alpha},
                   {"power", view.question.power},
                   {"effect_f", view.question.effect},
                   {"sigma", view.sigma ? ordered_json(*view.sigma) : ordered_json()}};
  json["terms"] = ordered_json::array();
  for (const coordinator::plan::TermOutlook& term : view.outlook.terms) json["terms"].push_back(TermJson(view, term));
  json["block_df"] = view.outlook.has_terms ? ordered_json(view.outlook.block_df) : ordered_json();
  json["residual_df"] = view.outlook.has_terms ? ordered_json(view.outlook.residual_df) : ordered_json();
  json["notes"] = view.outlook.notes;
  json["subset"] = view.subset ? SubsetJson(view) : ordered_json();
  json["estimate"] = nullptr;
  if (view.estimate.has_value()) {
    json["estimate"] = {{"seconds", view.estimate->seconds},
                        {"seconds_per_trial", view.estimate->seconds_per_trial},
                        {"workers", view.estimate->workers},
                        {"basis", view.estimate->basis}};
  }
  if (view.list_cells) {
    json["cell_list"] = ordered_json::array();
    for (int64_t cell = 0; cell < plan.cell_count(); ++cell) json["cell_list"].push_back(plan.CellLevels(cell));
    json["run_order"] = RunOrder(plan);
  }
  return JsonText(json);
}

std::string PlanCsv(const PlanView& view) {
  const coordinator::plan::Plan& plan = *view.plan;
  std::string csv = "cell";
  for (size_t f = 0; f < plan.factors().size(); ++f) csv += fmt::format(",{}", CsvField(plan.FactorName(f)));
  for (int32_t r = 0; r < plan.spec().replicates; ++r) csv += fmt::format(",order_in_replicate_{}", r);
  csv += "\n";
  const std::vector<int64_t> order = RunOrder(plan);
  std::vector<int64_t> place(order.size());
  for (size_t i = 0; i < order.size(); ++i) {
    place[static_cast<size_t>(order[i])] = static_cast<int64_t>(i) % plan.cell_count() + 1;
  }
  for (int64_t cell = 0; cell < plan.cell_count(); ++cell) {
    csv += fmt::format("{}", cell);
    for (size_t f = 0; f < plan.factors().size(); ++f) {
      csv += fmt::format(",{}", CsvField(std::string(plan.Level(cell, f))));
    }
    for (int32_t r = 0; r < plan.spec().replicates; ++r) {
      csv += fmt::format(",{}", place[static_cast<size_t>(plan.TrialIndex(cell, r))]);
    }
    csv += "\n";
  }
  return csv;
}

}  // namespace loupe::cli

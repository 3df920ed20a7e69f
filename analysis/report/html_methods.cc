#include "analysis/report/anova_format.h"
#include "analysis/report/html_sections.h"
#include "analysis/report/methods_text.h"
#include "analysis/report/number_format.h"
#include "analysis/report/svg_figure.h"
#include "fmt/format.h"

namespace loupe::analysis::report {

HtmlSection MethodsSection(const HtmlContext& context) {
  HtmlSection section{"methods", "Methods", ""};
  section.body =
      fmt::format("<p id=\"methods-text\">{}</p>\n", EscapeHtml(MethodsText(context.results, context.sweep)));
  return section;
}

HtmlSection ProvenanceSection(const HtmlContext& context) {
  const SweepProvenance& provenance = context.results.provenance;
  HtmlSection section{"provenance", "Where the numbers come from", ""};
  section.body = "<div class=\"wide\"><table><tbody>\n";
  const auto row = [&section](std::string_view name, std::string_view value) {
    section.body += fmt::format("<tr><th scope=\"row\">{}</th><td class=\"wrap\"><code>{}</code></td></tr>\n",
                                EscapeHtml(name), EscapeHtml(value));
  };
  row("sweep", context.results.sweep_id);
  row("data and analysis (SHA-256)", context.sweep.hash);
  row("seed", fmt::format("{}", provenance.seed));
  for (const auto& [name, version] : provenance.versions) row(name, version);
  section.body += "</tbody></table></div>\n";
  if (const auto settings = AllSettings(context.results); !settings.empty()) {
    section.body += "<details><summary>Settings</summary><div class=\"wide\"><table><tbody>\n";
    for (const auto& [name, value] : settings) row(name, value);
    section.body += "</tbody></table></div></details>\n";
  }
  if (!provenance.spec_text.empty()) {
    section.body += fmt::format("<details><summary>Sweep file as submitted</summary><pre>{}</pre></details>\n",
                                EscapeHtml(provenance.spec_text));
  }
  section.body +=
      Paragraph("`loupe report " + context.results.sweep_id.substr(context.results.sweep_id.rfind('/') + 1) +
                " --format csv` gives one line per trial, from which every number here can be computed again.");
  return section;
}

}  // namespace loupe::analysis::report

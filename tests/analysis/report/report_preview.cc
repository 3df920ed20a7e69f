// Writes the fixture's report in every format to a folder, to be looked at: report_preview FOLDER.
#include <cstdio>
#include <string>

#include "analysis/report/report.h"
#include "common/atomic_file.h"
#include "tests/analysis/report/sweep_fixture.h"

int main(int argc, char** argv) {
  using namespace loupe::analysis;
  if (argc != 2) {
    std::fprintf(stderr, "usage: report_preview FOLDER\n");
    return 2;
  }
  const std::string folder = argv[1];
  const auto write = [&](const std::string& name, const absl::StatusOr<std::string>& content) {
    if (!content.ok() || !loupe::WriteFileAtomically(folder + "/" + name, *content).ok()) {
      std::fprintf(stderr, "%s: not written: %s\n", name.c_str(), std::string(content.status().message()).c_str());
    }
  };
  const report::SweepResults sweep = report::MakeAdapterSweep(), unfinished = report::MakeUnfinishedSweep(9);
  write("report.html", report::RenderHtml(sweep, {}));
  write("report.txt", report::RenderText(sweep, {}));
  write("report.json", report::RenderJson(sweep, {}));
  write("report.csv", report::RenderCsv(sweep, {}));
  write("fid.html", report::RenderHtml(sweep, {.response = "clip_fid", .terms = "(input + activation + scale)^2"}));
  write("unfinished.html", report::RenderHtml(unfinished, {}));
  write("unfinished.txt", report::RenderText(unfinished, {}));
  return 0;
}

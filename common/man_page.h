// A program's manual page, from the table of commands and options that parses its command line.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "CLI/App.hpp"

namespace loupe {

struct ManPageText {
  // "loupe-worker"
  std::string name;
  // After the name's dash: "trains and scores trials".
  std::string summary;
  std::string version;
  // "2026-11-28"
  std::string date;
  // Further sections, in capitals, each with paragraphs that blank lines part.
  std::vector<std::pair<std::string, std::string>> sections;
};

// In roff's man(7) macros. Commands and options without a group are not for people and are left out.
std::string ManPage(const CLI::App& app, const ManPageText& text);

// SOURCE_DATE_EPOCH's day where that is set (reproducible-builds.org), else today, in UTC.
std::string ManPageDate();

// Prints the page and returns true where the command line is exactly "--man"; else does nothing. `text.date` is filled
// in. How `loupe man` gets the pages of the other programs.
bool PrintedManPage(int argc, const char* const* argv, const CLI::App& app, ManPageText text);

}  // namespace loupe

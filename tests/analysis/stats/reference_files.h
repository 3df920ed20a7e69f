// Reads the committed reference files (data sets and numbers written by the scripts beside them).
#pragma once

#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>

#include "analysis/stats/csv_table.h"
#include "nlohmann/json.hpp"

namespace loupe::analysis::stats {

// Tests run in the source folder (loupe_test sets it).
inline std::string ReadReference(const std::string& name) {
  const std::string path = "tests/analysis/stats/reference/" + name;
  std::ifstream file(path);
  if (!file) throw std::runtime_error("cannot read " + path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

inline nlohmann::json ReadReferenceJson(const std::string& name) { return nlohmann::json::parse(ReadReference(name)); }

inline DataTable ReadReferenceTable(const std::string& file, const std::string& response,
                                    const std::vector<std::string>& factors, const std::string& block = "") {
  auto table = ReadCsvTable(ReadReference(file),
                            {.response = response, .factors = factors, .block = block, .status_column = ""});
  if (!table.ok()) throw std::runtime_error(std::string(table.status().message()));
  return *std::move(table);
}

// Relative distance, so that one tolerance serves sums of squares of any size.
inline double RelativeError(double value, double reference) {
  return reference == 0 ? std::abs(value) : std::abs(value / reference - 1.0);
}

}  // namespace loupe::analysis::stats

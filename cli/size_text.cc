#include "cli/size_text.h"

#include "fmt/format.h"

namespace loupe::cli {

std::string SizeText(int64_t bytes) {
  if (bytes < 1000) return fmt::format("{} B", bytes);
  double value = static_cast<double>(bytes) / 1024;
  size_t unit = 0;
  constexpr std::string_view kUnits[] = {"KiB", "MiB", "GiB", "TiB"};
  while (value >= 999.5 && unit + 1 < std::size(kUnits)) {
    value /= 1024;
    ++unit;
  }
  return fmt::format("{:.{}f} {}", value, value < 9.95 ? 1 : 0, kUnits[unit]);
}

}  // namespace loupe::cli

// Durations for people.
#pragma once

#include <string>

namespace loupe::cli {

// "0.4 s", "25 s", "4 min 10 s", "3 h 05 min", "12 d 4 h"; "unknown" for what is negative or not finite.
std::string TimeText(double seconds);

}  // namespace loupe::cli

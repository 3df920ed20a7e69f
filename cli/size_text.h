// Numbers of bytes for people.
#pragma once

#include <cstdint>
#include <string>

namespace loupe::cli {

// "0 B", "999 B", "1.5 KiB", "120 MiB", "3.2 GiB": three digits at most.
std::string SizeText(int64_t bytes);

}  // namespace loupe::cli

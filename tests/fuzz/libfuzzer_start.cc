// In the place of fuzz_main.cc where libFuzzer drives the target: hands out what the target wants to start from.
//
//   LOUPE_FUZZ_PREPARE=DIR fuzz_csv      writes DIR/seeds/0000 … and DIR/dictionary, and ends
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "fmt/format.h"
#include "tests/fuzz/fuzz_target.h"

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  const char* folder = std::getenv("LOUPE_FUZZ_PREPARE");
  if (folder == nullptr) return 0;
  const std::filesystem::path seeds = std::filesystem::path(folder) / "seeds";
  std::filesystem::create_directories(seeds);
  int number = 0;
  for (const std::string& seed : loupe::fuzz::Seeds()) {
    std::ofstream(seeds / fmt::format("{:04}", number++), std::ios::binary) << seed;
  }
  std::ofstream dictionary(std::filesystem::path(folder) / "dictionary");
  for (const std::string& word : loupe::fuzz::Dictionary()) {
    if (word.empty()) continue;
    dictionary << '"';
    for (const char byte : word) dictionary << fmt::format("\\x{:02x}", static_cast<unsigned char>(byte));
    dictionary << "\"\n";
  }
  dictionary.close();
  std::exit(0);
}

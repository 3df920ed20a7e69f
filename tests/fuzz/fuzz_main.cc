// Drives a fuzz target without libFuzzer: the seeds as they are, then mutations of them, from a fixed seed.
//
//   fuzz_sweep_yaml                 the number of inputs of the ordinary test run
//   LOUPE_FUZZ_RUNS=1000000 LOUPE_FUZZ_SEED=7 fuzz_sweep_yaml
//   fuzz_sweep_yaml FILE…           these inputs only: to look at a crash again
//
// An input that ends the process, or takes a minute, is left as fuzz-crash-PID in the working directory.
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "tests/fuzz/fuzz_target.h"

namespace {

constexpr size_t kMaxSize = 1 << 16;
// No input takes a hundredth of this.
constexpr unsigned kHangSeconds = 60;

// For the signal handler: what is being tried now.
const char* current_bytes = nullptr;
size_t current_size = 0;

void LeaveCrash(int signal_number) {
  char name[64];
  std::snprintf(name, sizeof(name), "fuzz-crash-%d", ::getpid());
  const int fd = ::open(name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
  if (fd >= 0 && current_bytes != nullptr) {
    [[maybe_unused]] const ssize_t wrote = ::write(fd, current_bytes, current_size);
    ::close(fd);
  }
  ::signal(signal_number, SIG_DFL);
  ::raise(signal_number);
}

class Mutator {
 public:
  explicit Mutator(unsigned seed)
      : random_(seed), seeds_(loupe::fuzz::Seeds()), dictionary_(loupe::fuzz::Dictionary()) {}

  std::string Next() {
    std::string input = Pick(seeds_);
    const size_t changes = 1 + random_() % 8;
    for (size_t i = 0; i < changes; ++i) Change(input);
    if (input.size() > kMaxSize) input.resize(kMaxSize);
    return input;
  }
  const std::vector<std::string>& seeds() const { return seeds_; }

 private:
  const std::string& Pick(const std::vector<std::string>& from) { return from[random_() % from.size()]; }
  size_t Place(const std::string& input) { return input.empty() ? 0 : random_() % input.size(); }

  void Change(std::string& input) {
    if (LLVMFuzzerCustomMutator != nullptr && random_() % 4 != 0) {
      std::vector<uint8_t> buffer(kMaxSize);
      const size_t size = std::min(input.size(), buffer.size());
      std::memcpy(buffer.data(), input.data(), size);
      const size_t changed =
          LLVMFuzzerCustomMutator(buffer.data(), size, buffer.size(), static_cast<unsigned>(random_()));
      input.assign(reinterpret_cast<const char*>(buffer.data()), changed);
      return;
    }
    const size_t at = Place(input);
    const size_t length = 1 + random_() % 16;
    switch (random_() % 7) {
      case 0:
        if (!input.empty()) input[at] = static_cast<char>(input[at] ^ (1 << random_() % 8));
        break;
      case 1:
        input.erase(at, length);
        break;
      case 2:
        input.insert(at, input.substr(Place(input), length * 4));
        break;
      case 3:
        input.insert(at, dictionary_.empty() ? "\xff" : Pick(dictionary_));
        break;
      case 4:
        input.insert(at, 1, static_cast<char>(random_() % 256));
        break;
      case 5: {
        const std::string& other = Pick(seeds_);
        input = input.substr(0, at) + other.substr(Place(other));
        break;
      }
      case 6: {
        static constexpr std::array<uint64_t, 7> kNumbers = {0, 1, 0x7f, 0x80, 0xffff, 0x7fffffff, 0xffffffffffffffff};
        const uint64_t number = kNumbers[random_() % kNumbers.size()];
        for (size_t i = 0; i < 8 && at + i < input.size(); ++i) input[at + i] = static_cast<char>(number >> (8 * i));
        break;
      }
    }
  }

  std::mt19937_64 random_;
  const std::vector<std::string> seeds_;
  const std::vector<std::string> dictionary_;
};

void Try(const std::string& input) {
  current_bytes = input.data();
  current_size = input.size();
  ::alarm(kHangSeconds);
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(input.data()), input.size());
}

int NumberFrom(const char* variable, int fallback) {
  const char* text = std::getenv(variable);
  return text == nullptr ? fallback : std::atoi(text);
}

}  // namespace

int main(int argc, char** argv) {
  for (const int number : {SIGABRT, SIGALRM, SIGSEGV, SIGBUS, SIGFPE, SIGILL}) ::signal(number, &LeaveCrash);
  for (int i = 1; i < argc; ++i) {
    std::ifstream file(argv[i], std::ios::binary);
    Try(std::string(std::istreambuf_iterator<char>(file), {}));
  }
  if (argc > 1) return 0;
  const int runs = NumberFrom("LOUPE_FUZZ_RUNS", loupe::fuzz::DefaultRuns());
  const int seed = NumberFrom("LOUPE_FUZZ_SEED", 1);
  Mutator mutator(static_cast<unsigned>(seed));
  for (const std::string& input : mutator.seeds()) Try(input);
  for (int i = 0; i < runs; ++i) Try(mutator.Next());
  std::printf("%zu seeds and %d mutations (seed %d) did no harm\n", mutator.seeds().size(), runs, seed);
  return 0;
}

// Times one FID from features: fid_bench GENERATED.npy REFERENCE.npy REPETITIONS prints one JSON line. Driven by
// fid_bench.py, which times pytorch-fid's formula on the same files in the same run.
#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "analysis/metrics/frechet_distance.h"
#include "analysis/metrics/npy_file.h"

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: fid_bench GENERATED.npy REFERENCE.npy REPETITIONS\n");
    return 2;
  }
  const auto generated = loupe::analysis::metrics::ReadNpyFile(argv[1]),
             reference = loupe::analysis::metrics::ReadNpyFile(argv[2]);
  if (!generated.ok() || !reference.ok()) {
    std::fprintf(stderr, "cannot read the features\n");
    return 1;
  }
  double best = 1e300, value = 0;
  for (int repetition = 0; repetition < std::atoi(argv[3]); ++repetition) {
    const auto begin = std::chrono::steady_clock::now();
    value = loupe::analysis::metrics::ComputeFrechetDistance(*generated, *reference)->value;
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  std::printf("{\"fid\": %.12g, \"seconds\": %.6f}\n", value, best);
  return 0;
}

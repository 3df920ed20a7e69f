#include "tests/analysis/report/sweep_fixture.h"

#include <array>
#include <cmath>
#include <random>

#include "absl/status/status.h"
#include "common/positions.h"
#include "fmt/format.h"

namespace loupe::analysis::report {
namespace {

// Normal deviates by Box–Muller on the raw stream: the same on every standard library.
class Noise {
 public:
  explicit Noise(uint64_t seed) : generator_(seed) {}
  double Next() {
    const double u = Unit(), v = Unit();
    return std::sqrt(-2 * std::log(u)) * std::cos(2 * 3.14159265358979323846 * v);
  }

 private:
  double Unit() { return (static_cast<double>(generator_() >> 11) + 0.5) / 9007199254740992.0; }
  std::mt19937_64 generator_;
};

constexpr std::array<double, 10> kInputEffect = {-0.020, -0.010, -0.004, -0.055, 0.040,
                                                 0.012,  0.004,  -0.008, -0.030, -0.024};
constexpr std::array<double, 4> kActivationEffect = {0.003, -0.004, 0.002, -0.001};
constexpr std::array<double, 4> kScaleEffect = {-0.012, 0.002, 0.011, -0.001};

void AppendBigEndian(std::string& out, uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) out.push_back(static_cast<char>(value >> shift & 0xff));
}

uint32_t Crc32(std::string_view bytes) {
  uint32_t crc = 0xffffffffu;
  for (const char c : bytes) {
    crc ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit) crc = crc & 1 ? crc >> 1 ^ 0xedb88320u : crc >> 1;
  }
  return ~crc;
}

void AppendChunk(std::string& png, std::string_view type, std::string_view data) {
  AppendBigEndian(png, static_cast<uint32_t>(data.size()));
  const std::string body = std::string(type) + std::string(data);
  png += body;
  AppendBigEndian(png, Crc32(body));
}

}  // namespace

std::string MakePng(int size, uint64_t seed) {
  std::mt19937_64 generator(seed);
  const uint64_t colours = generator();
  std::string pixels;
  for (int y = 0; y < size; ++y) {
    pixels.push_back(0);  // no filter
    for (int x = 0; x < size; ++x) {
      // Four little faces: discs on a pale ground.
      const double half = size / 2.0, cx = std::fmod(x, half) - half / 2, cy = std::fmod(y, half) - half / 2;
      const bool inside = cx * cx + cy * cy < half * half * 0.16;
      const bool eye = std::abs(std::abs(cx) - half * 0.15) < 1.5 && std::abs(cy + half * 0.1) < 2;
      for (int channel = 0; channel < 3; ++channel) {
        const int tone = static_cast<int>(colours >> (channel * 8) & 0x7f) + 100;
        pixels.push_back(static_cast<char>(eye ? 30 : inside ? tone : 245));
      }
    }
  }
  // zlib stream of stored blocks (RFC 1950, 1951).
  std::string zlib("\x78\x01", 2);
  for (size_t at = 0; at < pixels.size(); at += 65535) {
    const size_t length = std::min<size_t>(65535, pixels.size() - at);
    zlib.push_back(at + length == pixels.size() ? 1 : 0);
    for (const size_t value : {length, ~length}) {
      zlib.push_back(static_cast<char>(value & 0xff));
      zlib.push_back(static_cast<char>(value >> 8 & 0xff));
    }
    zlib += pixels.substr(at, length);
  }
  uint32_t a = 1, b = 0;
  for (const char c : pixels) {
    a = (a + static_cast<unsigned char>(c)) % 65521;
    b = (b + a) % 65521;
  }
  AppendBigEndian(zlib, b << 16 | a);
  std::string png("\x89PNG\r\n\x1a\n", 8), header;
  AppendBigEndian(header, static_cast<uint32_t>(size));
  AppendBigEndian(header, static_cast<uint32_t>(size));
  header += std::string("\x08\x02\x00\x00\x00", 5);
  AppendChunk(png, "IHDR", header);
  AppendChunk(png, "IDAT", zlib);
  AppendChunk(png, "IEND", "");
  return png;
}

SweepResults MakeAdapterSweep(const FixtureOptions& options) {
  SweepResults results;
  results.sweep_id = "sweeps/cats";
  results.display_name = "Adapters on cat faces <small>";
  results.state = "COMPLETED";
  results.replicates = options.replicates;
  results.primary_score = "clip_i";
  results.baseline_scores = {{"clip_i", 0.702}, {"clip_t", 0.231}, {"clip_fid", 0.412}, {"clip_kid", 0.151}};
  SweepFactor input{"input", "method.input", {}}, output{"output", "method.output", {}};
  for (const Position position : InputPositions()) input.levels.emplace_back(PositionName(position));
  // Not in the paper's order, as a user may list them.
  for (const Position position : OutputPositions())
    output.levels.insert(output.levels.begin(), std::string(PositionName(position)));
  results.factors = {input,
                     output,
                     {"activation", "method.activation", {"relu", "sigmoid", "silu", "identity"}},
                     {"scale", "method.scale", {"0.5", "1", "2", "4"}}};
  results.provenance.seed = 20240229;
  results.provenance.spec_text = "name: cats\nmethod:\n  kind: adapter  # <paper>\n";
  results.provenance.settings = {
      {"base", "configs/bases/emoji-sd"}, {"budget.steps", "200"}, {"task.kind", "dreambooth"}};
  results.provenance.versions = {{"loupe", "0.1.0"}, {"libtorch", "2.13.0"}};

  const auto level_of = [](const SweepFactor& factor, std::string_view name) {
    for (size_t i = 0; i < factor.levels.size(); ++i) {
      if (factor.levels[i] == name) return static_cast<int32_t>(i);
    }
    return -1;
  };
  Noise noise(options.seed);
  int64_t index = 0, cell = 0;
  for (const PositionPairId& pair : LegalPairs()) {
    for (int32_t activation = 0; activation < 4; ++activation) {
      for (int32_t scale = 0; scale < 4; ++scale, ++cell) {
        for (int32_t replicate = 0; replicate < options.replicates; ++replicate, ++index) {
          TrialRecord trial;
          trial.index = index;
          trial.cell_index = cell;
          trial.levels = {level_of(input, PositionName(pair.input)),
                          level_of(results.factors[1], PositionName(pair.output)), activation, scale};
          trial.replicate = replicate;
          trial.attempts = 1;
          trial.state = TrialState::kSucceeded;
          const size_t in = static_cast<size_t>(pair.input);
          const double truth = 0.80 + kInputEffect[in] + (pair.output == Position::kFfnIn ? 0.008 : 0) +
                               kActivationEffect[static_cast<size_t>(activation)] +
                               kScaleEffect[static_cast<size_t>(scale)] + (activation == 1 && scale == 3 ? 0.012 : 0) +
                               0.006 * replicate;
          const double score = truth + 0.012 * noise.Next();
          trial.scores = {{"clip_i", score},
                          {"clip_t", 0.25 - 0.1 * (score - 0.8) + 0.004 * noise.Next()},
                          {"clip_fid", 0.35 - 0.8 * (score - 0.8) + 0.02 * noise.Next()},
                          {"clip_kid", 0.12 - 0.5 * (score - 0.8) + 0.02 * noise.Next()}};
          trial.duration_seconds = 61.5;
          if (options.with_failures) {
            if (index % 97 == 13) {
              trial.state = TrialState::kFailed;
              trial.scores.clear();
              trial.attempts = 2;
              trial.failure_message = "the loss became NaN at step 40 with scale 4 & sigmoid <unstable>";
            } else if (index == 201) {
              trial.state = TrialState::kQuarantined;
              trial.scores.clear();
              trial.failure_message = "three workers were lost while running it";
            } else if (index == 33 || index == 150) {
              trial.stopped_early = true;
            }
          }
          if (options.with_curves && trial.state == TrialState::kSucceeded && index % 4 == 0) {
            MetricCurve loss{index, "loss", {}}, clip{index, "clip_i", {}};
            for (int64_t step = 0; step <= 200; step += 5) {
              const double progress = 1 - std::exp(-static_cast<double>(step) / 60);
              loss.points.emplace_back(step, 0.30 - 0.12 * progress - (score - 0.8) + 0.02 * noise.Next());
              if (step % 50 == 0) clip.points.emplace_back(step, 0.70 + (score - 0.70) * progress);
            }
            results.curves.push_back(std::move(loss));
            results.curves.push_back(std::move(clip));
          }
          results.trials.push_back(std::move(trial));
        }
      }
    }
  }
  std::stable_sort(results.curves.begin(), results.curves.end(),
                   [](const MetricCurve& a, const MetricCurve& b) { return a.metric < b.metric; });
  if (options.with_pictures) {
    results.load_sample_picture = [](int64_t trial) -> absl::StatusOr<std::string> {
      if (trial % 50 == 49) return absl::NotFoundError("no sheet");
      return MakePng(64, static_cast<uint64_t>(trial));
    };
  }
  return results;
}

SweepResults MakeUnfinishedSweep(int64_t finished) {
  FixtureOptions options;
  options.with_failures = options.with_curves = options.with_pictures = false;
  SweepResults results = MakeAdapterSweep(options);
  results.state = "ACTIVE";
  for (TrialRecord& trial : results.trials) {
    if (trial.index < finished) continue;
    trial.state = trial.index < finished + 4 ? TrialState::kRunning : TrialState::kQueued;
    trial.scores.clear();
  }
  return results;
}

stats::DataTable ThreeCells() {
  stats::DataTableBuilder builder("y", {{"a", {"low", "mid", "high"}}});
  for (const auto& [level, mean] : {std::pair{"low", 1.0}, std::pair{"mid", 2.9}, std::pair{"high", 3.0}}) {
    for (const double deviation : {-0.1, 0.0, 0.1}) builder.AddRow({level}, mean + deviation).IgnoreError();
  }
  return std::move(builder).Build();
}

}  // namespace loupe::analysis::report

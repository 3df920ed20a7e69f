#include "worker/kernels/attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "worker/kernels/vector.h"

namespace loupe::worker::kernels {
namespace {

constexpr float kUntouched = 12345.0F;

struct Shape {
  int64_t queries, keys, heads, width;
  float query_size = 1.0F;  // standard deviation; sets that of the scores
};

std::string Name(const Shape& s) {
  return std::to_string(s.queries) + " queries, " + std::to_string(s.keys) + " keys, " + std::to_string(s.heads) +
         " heads of " + std::to_string(s.width) + ", query size " + std::to_string(s.query_size);
}

// Everything of one call; rows some floats further apart than they are long.
struct Call {
  Shape shape;
  int64_t columns, stride;
  std::vector<float> q, k, v, d_out, out, log_sums, d_q, d_k, d_v;

  explicit Call(const Shape& s, uint32_t seed = 1) : shape(s), columns(s.heads * s.width), stride(columns + 5) {
    std::mt19937 random(seed);
    const auto normal = [&](int64_t rows, float size) {
      std::normal_distribution<float> distribution(0.0F, size);
      std::vector<float> values(static_cast<size_t>(rows * stride));
      for (float& x : values) x = distribution(random);
      return values;
    };
    q = normal(s.queries, s.query_size);
    k = normal(s.keys, 1.0F);
    v = normal(s.keys, 1.0F);
    d_out = normal(s.queries, 1.0F);
    out.assign(q.size(), kUntouched);
    d_q.assign(q.size(), kUntouched);
    d_k.assign(k.size(), kUntouched);
    d_v.assign(k.size(), kUntouched);
    log_sums.assign(static_cast<size_t>(s.heads * s.queries), kUntouched);
  }

  Attention Inputs(int64_t first, int64_t end) const {
    return {{q.data() + first * stride, stride},
            {k.data(), stride},
            {v.data(), stride},
            end - first,
            shape.keys,
            shape.width};
  }
  // The heads [first_head, end_head) of the queries [first, end).
  void Forward(int64_t first, int64_t end, int64_t first_head, int64_t end_head, bool with_log_sums = true) {
    AttentionForward(Inputs(first, end), first_head, end_head, {out.data() + first * stride, stride},
                     {with_log_sums ? log_sums.data() + first : nullptr, shape.queries});
  }
  void Backward(int64_t first, int64_t end, int64_t first_head, int64_t end_head, bool keys, bool values) {
    AttentionBackward(Inputs(first, end), first_head, end_head, {out.data() + first * stride, stride},
                      {log_sums.data() + first, shape.queries}, {d_out.data() + first * stride, stride},
                      {d_q.data() + first * stride, stride}, {keys ? d_k.data() : nullptr, stride},
                      {values ? d_v.data() : nullptr, stride});
  }
  void ForwardAndBackward() {
    Forward(0, shape.queries, 0, shape.heads);
    Backward(0, shape.queries, 0, shape.heads, true, true);
  }
};

struct Exact {
  std::vector<double> out, log_sums, d_q, d_k, d_v;
};

Exact Compute(const Call& call) {
  const Shape& s = call.shape;
  Exact exact;
  exact.out.assign(call.q.size(), kUntouched);
  exact.d_q.assign(call.q.size(), kUntouched);
  exact.d_k.assign(call.k.size(), kUntouched);
  exact.d_v.assign(call.k.size(), kUntouched);
  exact.log_sums.assign(call.log_sums.size(), 0.0);
  const double scale = 1.0 / std::sqrt(static_cast<double>(s.width));
  const auto at = [&](int64_t row, int64_t head, int64_t i) {
    return static_cast<size_t>(row * call.stride + head * s.width + i);
  };
  std::vector<double> p(static_cast<size_t>(s.keys)), d_p(p.size());
  for (int64_t h = 0; h < s.heads; ++h) {
    for (int64_t key = 0; key < s.keys; ++key) {
      for (int64_t i = 0; i < s.width; ++i) exact.d_k[at(key, h, i)] = exact.d_v[at(key, h, i)] = 0.0;
    }
    for (int64_t query = 0; query < s.queries; ++query) {
      for (int64_t key = 0; key < s.keys; ++key) {
        double score = 0.0, d = 0.0;
        for (int64_t i = 0; i < s.width; ++i) {
          score += static_cast<double>(call.q[at(query, h, i)]) * call.k[at(key, h, i)];
          d += static_cast<double>(call.d_out[at(query, h, i)]) * call.v[at(key, h, i)];
        }
        p[static_cast<size_t>(key)] = score * scale;
        d_p[static_cast<size_t>(key)] = d;
      }
      const double top = *std::max_element(p.begin(), p.end());
      double sum = 0.0, mean = 0.0;
      for (const double score : p) sum += std::exp(score - top);
      const double log_sum = top + std::log(sum);
      exact.log_sums[static_cast<size_t>(h * s.queries + query)] = log_sum / std::log(2.0);
      for (size_t key = 0; key < p.size(); ++key) {
        p[key] = std::exp(p[key] - log_sum);
        mean += p[key] * d_p[key];
      }
      for (int64_t i = 0; i < s.width; ++i) {
        double out = 0.0, d_q = 0.0;
        for (int64_t key = 0; key < s.keys; ++key) {
          const double weight = p[static_cast<size_t>(key)];
          const double d_score = weight * (d_p[static_cast<size_t>(key)] - mean) * scale;
          out += weight * call.v[at(key, h, i)];
          d_q += d_score * call.k[at(key, h, i)];
          exact.d_k[at(key, h, i)] += d_score * call.q[at(query, h, i)];
          exact.d_v[at(key, h, i)] += weight * call.d_out[at(query, h, i)];
        }
        exact.out[at(query, h, i)] = out;
        exact.d_q[at(query, h, i)] = d_q;
      }
    }
  }
  return exact;
}

// The largest difference by the largest number (of 1 at least).
double Error(const std::vector<float>& got, const std::vector<double>& want) {
  double largest = 1.0, error = 0.0;
  for (size_t i = 0; i < got.size(); ++i) {
    if (want[i] == kUntouched) {
      if (got[i] != kUntouched) return INFINITY;
      continue;
    }
    largest = std::max(largest, std::abs(want[i]));
    const double difference = std::abs(got[i] - want[i]);
    if (!(difference <= error)) error = difference;
  }
  return error / largest;
}

bool Same(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

class AttentionTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (Width() == 0) GTEST_SKIP() << "no vectors on this processor";
  }
};

TEST_F(AttentionTest, IsNearTheExactResult) {
  std::vector<Shape> shapes = {{256, 256, 2, 16}, {256, 77, 2, 16},  {64, 64, 4, 24}, {64, 77, 4, 24}, {16, 16, 4, 40},
                               {16, 77, 4, 40},   {140, 300, 1, 64}, {33, 129, 3, 8}, {9, 128, 2, 32}, {300, 5, 1, 48}};
  for (const int64_t width : {8, 16, 24, 40, 56, 64, 160}) {
    for (const int64_t queries : {1, 7, 17, 50}) {
      for (const int64_t keys : {1, 2, 13, 131}) shapes.push_back({queries, keys, 2, width});
    }
  }
  for (const Shape& shape : shapes) {
    SCOPED_TRACE(Name(shape));
    Call call(shape);
    call.ForwardAndBackward();
    const Exact exact = Compute(call);
    EXPECT_LT(Error(call.out, exact.out), 2e-6);
    EXPECT_LT(Error(call.log_sums, exact.log_sums), 2e-6);
    EXPECT_LT(Error(call.d_q, exact.d_q), 4e-6);
    EXPECT_LT(Error(call.d_k, exact.d_k), 4e-6);
    EXPECT_LT(Error(call.d_v, exact.d_v), 4e-6);
  }
}

// A score of thousands has its last place at 1e-4 and more, which the probabilities take over.
TEST_F(AttentionTest, BearsScoresWhoseExponentialsOverflow) {
  for (const Shape& shape :
       {Shape{20, 150, 2, 16, 300.0F}, Shape{20, 40, 1, 64, 1000.0F}, Shape{5, 300, 2, 24, 30.0F}}) {
    SCOPED_TRACE(Name(shape));
    Call call(shape);
    call.ForwardAndBackward();
    const Exact exact = Compute(call);
    const double tolerance = 1e-6 * shape.query_size;
    EXPECT_LT(Error(call.out, exact.out), tolerance);
    EXPECT_LT(Error(call.log_sums, exact.log_sums), 1e-6);
    EXPECT_LT(Error(call.d_q, exact.d_q), tolerance);
    EXPECT_LT(Error(call.d_k, exact.d_k), tolerance);
    EXPECT_LT(Error(call.d_v, exact.d_v), tolerance);
  }
}

TEST_F(AttentionTest, KeepsRisingAndFallingMaximaOfLaterKeys) {
  for (const bool rising : {true, false}) {
    Call call({3, 500, 1, 8});
    for (int64_t key = 0; key < 500; ++key) {
      for (int64_t i = 0; i < 8; ++i) {
        call.k[static_cast<size_t>(key * call.stride + i)] = 0.5F * static_cast<float>(rising ? key : 499 - key);
      }
    }
    for (float& x : call.q) x = std::abs(x) + 0.1F;
    call.ForwardAndBackward();
    const Exact exact = Compute(call);
    EXPECT_LT(Error(call.out, exact.out), 1e-4);
    EXPECT_LT(Error(call.d_q, exact.d_q), 1e-4);
    EXPECT_LT(Error(call.d_v, exact.d_v), 1e-4);
  }
}

TEST_F(AttentionTest, GivesEachQueryTheSameBytesWhateverElseIsComputed) {
  for (const Shape& shape : {Shape{70, 77, 3, 24}, Shape{150, 300, 2, 16}, Shape{40, 16, 2, 40}}) {
    SCOPED_TRACE(Name(shape));
    Call whole(shape), parts(shape);
    whole.ForwardAndBackward();
    const int64_t ends[] = {1, 4, 20, 37, shape.queries};
    int64_t first = 0;
    for (const int64_t end : ends) {
      for (int64_t h = 0; h < shape.heads; ++h) {
        parts.Forward(first, end, h, h + 1);
        parts.Backward(first, end, h, h + 1, false, false);
      }
      first = end;
    }
    EXPECT_TRUE(Same(whole.out, parts.out));
    EXPECT_TRUE(Same(whole.log_sums, parts.log_sums));
    EXPECT_TRUE(Same(whole.d_q, parts.d_q));
    EXPECT_TRUE(std::all_of(parts.d_k.begin(), parts.d_k.end(), [](float x) { return x == kUntouched; }));

    Call by_head(shape);
    by_head.Forward(0, shape.queries, 0, shape.heads, false);
    EXPECT_TRUE(Same(whole.out, by_head.out));
    EXPECT_TRUE(std::all_of(by_head.log_sums.begin(), by_head.log_sums.end(), [](float x) { return x == kUntouched; }));
    by_head.log_sums = whole.log_sums;
    for (int64_t h = 0; h < shape.heads; ++h) {
      by_head.Backward(0, shape.queries, h, h + 1, true, false);
      by_head.Backward(0, shape.queries, h, h + 1, false, true);
    }
    EXPECT_TRUE(Same(whole.d_q, by_head.d_q));
    EXPECT_TRUE(Same(whole.d_k, by_head.d_k));
    EXPECT_TRUE(Same(whole.d_v, by_head.d_v));
  }
}

TEST_F(AttentionTest, DoesNotHideNaN) {
  Call call({20, 40, 1, 16});
  call.k[static_cast<size_t>(7 * call.stride)] = NAN;
  call.Forward(0, 20, 0, 1);
  for (int64_t query = 0; query < 20; ++query) {
    EXPECT_TRUE(std::isnan(call.out[static_cast<size_t>(query * call.stride)]));
  }
}

}  // namespace
}  // namespace loupe::worker::kernels

// Group norm of pictures and layer norm of rows, and their gradients by the input. Their weights and biases are frozen,
// so no gradients of those are computed.
#pragma once

#include <cstdint>

namespace loupe::worker::kernels {

// Pictures are [pictures, pixels, channels], contiguous (channels last); `groups` divides `channels`.
struct GroupNormShape {
  int64_t pictures, pixels, channels, groups;
};

enum class AfterNorm { kNothing, kSilu };

// y = after((x − mean) / √(variance + eps) · weight + bias), mean and variance being those of a picture's group (Wu &
// He 2018, arXiv 1803.08494), weight and bias [channels], or null: 1 and 0. y may be x. Where they are not null, `mean`
// and `rstd` (1 / √(variance + eps)), both [pictures, groups], are given for the gradient.
void GroupNorm(const GroupNormShape& shape, const float* x, const float* weight, const float* bias, float eps,
               AfterNorm after, float* y, float* mean, float* rstd);

// d_x from d_y, and what GroupNorm got and gave. d_x may be d_y, not x.
void GroupNormGradient(const GroupNormShape& shape, const float* d_y, const float* x, const float* mean,
                       const float* rstd, const float* weight, const float* bias, AfterNorm after, float* d_x);

// The same over each row of [rows, columns] (Ba et al. 2016, arXiv 1607.06450); weight and bias are [columns], or both
// null; mean and rstd, [rows], may be null. y may be x.
void LayerNorm(const float* x, int64_t rows, int64_t columns, const float* weight, const float* bias, float eps,
               float* y, float* mean, float* rstd);

// d_x may be d_y, or x.
void LayerNormGradient(const float* d_y, const float* x, int64_t rows, int64_t columns, const float* mean,
                       const float* rstd, const float* weight, float* d_x);

}  // namespace loupe::worker::kernels

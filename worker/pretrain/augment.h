// Random changes to small pictures on white, for learning shapes rather than colours and exact places.
//
// All functions take and give pictures [N, 3, H, W] in [0, 1], draw from `random` only, and keep white white: they work
// on the ink, 1 − picture.
#pragma once

#include <torch/types.h>

namespace loupe::worker::pretrain {

// Rotation by up to `angle` radians either way, scale exp(±scale), width against height exp(±0.15), shift by up to
// `shift` of half the side, per picture, bilinear; what comes in from outside is white.
torch::Tensor RandomAffine(const torch::Tensor& pictures, double angle, double scale, double shift,
                           at::Generator& random);

// Each picture's three inks mixed by a matrix: one near the identity, or, with probability `strong`, one of positive
// rows that sum to about one (hues change places, some pictures turn grey).
torch::Tensor RandomColours(const torch::Tensor& pictures, double strong, at::Generator& random);

// With probability `share` a picture gets the middle (an ellipse of a quarter to a half of half the side) of `donors`'
// same row: what it is should then be told by its outline.
torch::Tensor TransplantMiddles(const torch::Tensor& pictures, const torch::Tensor& donors, double share,
                                at::Generator& random);

// With probability `share` a rectangle of 0.1 to 0.45 of each side becomes white.
torch::Tensor EraseRectangles(const torch::Tensor& pictures, double share, at::Generator& random);

// With probability `share` half the resolution.
torch::Tensor RandomBlur(const torch::Tensor& pictures, double share, at::Generator& random);

// For the autoencoder: with probability ½ mirrored, a cyclic shift by up to an eighth of the side, and one of the six
// orders of the channels.
torch::Tensor FlipRollPermute(const torch::Tensor& pictures, at::Generator& random);

}  // namespace loupe::worker::pretrain

// How good a base is: `loupe-worker evaluate`. On pictures that it was trained on, and beside them on those that were
// held out: how far its pictures of their captions are from real ones, what of that distance is the autoencoder's, and
// whether they are copies of training pictures. No LibTorch in this header.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace loupe::worker::evaluate {

struct EvaluationRequest {
  std::string base;
  std::string scorer;  // a CLIPModel's folder
  // Of networks that look too, by name (base/picture_networks.h); empty: none.
  std::map<std::string, std::string> networks;
  // What the base was trained on, and what was held out: the list of emoji, drawn from the font, or folders of pictures
  // with a metadata.jsonl (pretrain/corpus.h). One of the two.
  std::string items;
  std::vector<std::string> pictures;
  std::string font;  // of the list; empty: Noto Color Emoji where Debian puts it
  int64_t count = 128;
  uint64_t seed = 0;  // of the initial noise: the same for both sections, and for all bases of one latent shape
  int64_t steps = 25;
  double guidance = 3;
  std::string device = "auto";
  int threads = 0;
  std::string out;  // folder for evaluation.json, evaluation.md and the sheets; empty: none
};

// One set of pictures of a section: "real", the pictures aimed at; "autoencoder", what is left of them in latents;
// "base", its pictures of their captions.
struct SetScores {
  std::string name;
  std::map<std::string, double> values;
};

// Pictures evenly over a list, every other one aimed at and those between them the reference: two halves of one
// distribution that share no picture, so that the real pictures' own distance from the reference is what a base without
// fault would have at this count.
struct EvaluatedSection {
  std::string name;
  int64_t count = 0;                  // aimed at, and as many in the reference
  std::vector<std::string> captions;  // what each picture aimed at was asked for by, in words
  std::vector<SetScores> sets;
};

struct Evaluation {
  std::string base, kind, base_sha256;
  std::map<std::string, std::string> networks;  // what the scores' prefixes mean: "clip" -> folder and SHA-256
  int64_t training_pictures = 0;
  uint64_t seed = 0;
  int64_t steps = 0;
  double guidance = 0;
  std::vector<EvaluatedSection> sections;
  // What a reader of the numbers must know: few pictures, classes that the base does not have, what the expected
  // nearest distance comes from.
  std::vector<std::string> notes;
};

// The sections are "training", "held out", and where fewer are held out "training, as many". INVALID_ARGUMENT or
// NOT_FOUND says what does not fit, of base, networks, list, pictures or counts; other errors as WritePng's.
absl::StatusOr<Evaluation> EvaluateBase(const EvaluationRequest& request);

}  // namespace loupe::worker::evaluate

// Photographs: cut-outs of things (Tux Paint's stamps) on plain colours and on photographed ground, with captions.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/io/image.h"

namespace loupe::worker::data {

// configs/bases/photographs.json: which stamps are photographs, which of them no base is trained on, and what they
// stand on.
struct PhotographSources {
  struct Ground {
    std::string file;
    std::string name;     // "meadow"
    std::string setting;  // "in a meadow"
    std::string hold;     // not empty: never trained on
  };
  std::string stamps;                        // the folder
  std::vector<std::string> folders;          // below it
  std::vector<std::string> skip;             // parts of paths that are drawings, or hardly to be recognised
  std::map<std::string, std::string> names;  // path -> name, where the caption's is none
  std::map<std::string, std::vector<std::string>> held_out;  // family -> beginnings of paths
  std::vector<Ground> grounds;

  // NOT_FOUND; INVALID_ARGUMENT names the key.
  static absl::StatusOr<PhotographSources> Read(const std::string& path);
};

struct Stamp {
  std::string path;  // below the folder of stamps
  std::string name;  // "sumatran tiger", from its caption, or from the file's name where the caption is a story
  std::string hold;  // the held-out family
};

// Every stamp of the sources, by path. NOT_FOUND names the Debian package.
absl::StatusOr<std::vector<Stamp>> ListStamps(const PhotographSources& sources);

// A stamp's caption as a name: no article, nothing after the first clause, lower case; empty when that is more than
// four words.
std::string StampName(const std::string& caption);

struct RenderPhotographsOptions {
  PhotographSources sources;
  // "training" (no held-out family, and the grounds), "held-out", "all", a held-out family ("dogs"), or one stamp by
  // name ("dog").
  std::string family = "training";
  std::string out_folder;
  int side = 64;
  int variations =
      8;  // of each stamp: first alone on white, then on a photographed ground and on a plain colour in turn
};

// Writes the pictures and metadata.jsonl with {"file_name", "text", "name", "setting", "style": "photo", "group",
// "hold"}. The same sources and options give the same bytes. Returns how many; INVALID_ARGUMENT lists the families when
// there is no such one.
absl::StatusOr<int64_t> RenderPhotographs(const RenderPhotographsOptions& options);

}  // namespace loupe::worker::data

#include "common/pack_options.h"

#include "CLI/CLI.hpp"

namespace loupe {

void AddPackOptions(CLI::App& command, PackOptions& options) {
  command
      .add_option(
          "--slots", options.slots,
          "Trials that a worker trains together, where they fit each other: a number, or auto: as many as memory holds")
      ->check(CLI::IsMember({"auto"}) | CLI::Range(1, 1024))
      ->capture_default_str();
  command
      .add_option("--passes", options.passes,
                  "How they go through the base: own (each alone: the bytes of a run alone), shared (as one batch, as "
                  "wide as there are slots), or auto: shared on a GPU")
      ->check(CLI::IsMember({"auto", "own", "shared"}))
      ->capture_default_str();
}

}  // namespace loupe

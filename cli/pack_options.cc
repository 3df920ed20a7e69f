#include "cli/pack_options.h"

namespace loupe::cli {

void AddPackOptions(CLI::App& command, PackOptions& options) {
  command
      .add_option("--slots", options.slots,
                  "Trials that each worker trains together where they fit each other: a number, or auto: as many as "
                  "memory holds")
      ->check(CLI::IsMember({"auto"}) | CLI::Range(1, 1024))
      ->capture_default_str();
  command
      .add_option("--passes", options.passes,
                  "How these go through the base: own (each alone), shared (as one batch), or auto: shared on a GPU")
      ->check(CLI::IsMember({"auto", "own", "shared"}))
      ->capture_default_str();
}

}  // namespace loupe::cli

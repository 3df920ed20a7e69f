#include "coordinator/engine/guarded.h"

#include <exception>
#include <new>

#include "fmt/format.h"

namespace loupe::coordinator {
namespace {

// Made while there is memory: a copy of it takes none.
const absl::Status kShortOfMemory = absl::ResourceExhaustedError("the coordinator is short of memory: try again");

}  // namespace

absl::Status StatusOfException() noexcept {
  try {
    try {
      throw;
    } catch (const std::bad_alloc&) {
      return kShortOfMemory;
    } catch (const std::exception& error) {
      return absl::InternalError(fmt::format("the call failed: {}", error.what()));
    }
  } catch (const std::bad_alloc&) {
    return kShortOfMemory;
  } catch (...) {
    return absl::InternalError("the call failed for a reason that has no name");
  }
}

}  // namespace loupe::coordinator

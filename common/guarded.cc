#include "common/guarded.h"

#include <exception>
#include <new>

#include "common/logging.h"
#include "fmt/format.h"

namespace loupe {
namespace {

// Made while there is memory: a copy of it takes none.
const absl::Status kShortOfMemory = absl::ResourceExhaustedError("the server is short of memory: try again");

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

bool LogFailure(std::string_view loop, const absl::Status& turn) noexcept {
  if (turn.ok()) return true;
  try {
    LogError("{} failed: {}", loop, std::string_view(turn.message().data(), turn.message().size()));
  } catch (...) {
    // There is no memory to say so.
  }
  return false;
}

}  // namespace loupe

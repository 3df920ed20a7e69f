// Where no exception may get through: callbacks of gRPC, the loops of threads, a turn of the engine.
#pragma once

#include <string_view>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"

namespace loupe {

// Of the exception that is being handled: RESOURCE_EXHAUSTED when memory was short (the caller may try again), INTERNAL
// otherwise. Itself needs no memory.
absl::Status StatusOfException() noexcept;

// Runs `body`, which returns nothing or a status; what leaves it as an exception is one.
template <typename Body>
absl::Status Guarded(Body&& body) noexcept {
  try {
    if constexpr (std::is_void_v<std::invoke_result_t<Body>>) {
      std::forward<Body>(body)();
      return absl::OkStatus();
    } else {
      return std::forward<Body>(body)();
    }
  } catch (...) {
    return StatusOfException();
  }
}

// As above, for one turn of a thread's loop: logs what it was, "LOOP failed: …", and returns whether it went well.
bool LogFailure(std::string_view loop, const absl::Status& turn) noexcept;
template <typename Body>
bool GuardedTurn(std::string_view loop, Body&& body) noexcept {
  return LogFailure(loop, Guarded(std::forward<Body>(body)));
}

}  // namespace loupe

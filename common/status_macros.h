// Early return on a failed absl::Status, the project's one way to pass errors up outside LibTorch code.
#pragma once

#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "fmt/format.h"

namespace loupe {

// Prefixes `status`'s message with "context: ", keeping code and payloads. OK stays OK.
inline absl::Status Annotate(const absl::Status& status, std::string_view context) {
  if (status.ok()) return status;
  absl::Status annotated(
      status.code(),
      fmt::format("{}: {}", context, std::string_view(status.message().data(), status.message().size())));
  status.ForEachPayload([&](absl::string_view url, const absl::Cord& payload) { annotated.SetPayload(url, payload); });
  return annotated;
}

}  // namespace loupe

#define LOUPE_CONCAT_INNER(a, b) a##b
#define LOUPE_CONCAT(a, b) LOUPE_CONCAT_INNER(a, b)

#define LOUPE_RETURN_IF_ERROR(expr)                                 \
  do {                                                              \
    if (absl::Status loupe_status_ = (expr); !loupe_status_.ok()) { \
      return loupe_status_;                                         \
    }                                                               \
  } while (false)

#define LOUPE_ASSIGN_OR_RETURN(lhs, expr) LOUPE_ASSIGN_OR_RETURN_INNER(LOUPE_CONCAT(loupe_or_, __LINE__), lhs, expr)
#define LOUPE_ASSIGN_OR_RETURN_INNER(tmp, lhs, expr) \
  auto tmp = (expr);                                 \
  if (!tmp.ok()) return tmp.status();                \
  lhs = *std::move(tmp)

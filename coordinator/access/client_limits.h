// What one client may ask of the coordinator: how often, and how much at once.
#pragma once

#include <cstdint>

#include "coordinator/access/access.h"
#include "coordinator/access/open_calls.h"
#include "coordinator/access/rate_limiter.h"

namespace loupe::coordinator::access {

// A client is a token used from one machine. What is beyond is refused with RESOURCE_EXHAUSTED, reason RATE_LIMITED,
// and google.rpc.RetryInfo. Messages are at most 4 MiB besides.
struct ClientLimits {
  // People and their scripts: viewer and submitter tokens. A page of `loupe watch` costs one or two calls a second.
  RateLimit people = {200, 1000};
  // Workers and administrators. A thousand workers of one machine share one token, each with one or two calls a second.
  RateLimit workers = {10000, 20000};
  // Calls without a valid token, per machine. These also reach the audit log, which nobody unknown may fill.
  RateLimit strangers = {5, 50};
  // What may be open at once, and unread. A viewer's page has a handful of calls open; a thousand workers that share a
  // token and a machine hold a call each. All together: 192 transfers with a chunk of at most 1 MiB each, and 128 MiB
  // of answers.
  OpenCalls::Options open = {
      .people = {.unary = 256, .streams = 32, .held = 1000, .unread_bytes = int64_t{32} << 20},
      .workers = {.unary = 2048, .streams = 128, .held = 200000, .unread_bytes = int64_t{64} << 20},
      .all = {.unary = 8192, .streams = 192, .held = 400000, .unread_bytes = int64_t{128} << 20},
  };
  // Largest artifact, in bytes. Whole fine-tuned networks are the largest things that trials hand over.
  int64_t max_artifact_bytes = int64_t{8} << 30;

  const RateLimit& of(Role role) const { return role == Role::kWorker || role == Role::kAdmin ? workers : people; }
};

}  // namespace loupe::coordinator::access

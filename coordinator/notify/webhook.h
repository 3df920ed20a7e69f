// Whom to tell what: the operator's file of webhooks, and what a delivery looks like.
//
// DATA/webhooks.json (mode 0600, written by the operator, read again when it changes):
//   [{"name": "team", "url": "https://hooks.example.org/loupe", "secret": "at least 16 characters",
//     "events": ["sweep.finished", "sweep.paused"], "format": "json", "allow_private": false}]
// `events` missing means all; `format` is json or slack; `allow_private` lets the url be of this machine or of a
// private network. In place of url, secret, format and allow_private an entry may have "email": ["ops@example.org"] and
// perhaps "from": the message is then given to the coordinator's --notify-command.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/http_post.h"

namespace loupe::coordinator::notify {

struct Webhook : HttpUrl {
  std::string name;
  std::string secret;
  // Empty: all.
  std::vector<std::string> events;
  bool slack = false;
  bool allow_private = false;
  // Not empty: these get an e-mail, and of the above only the name counts.
  std::vector<std::string> mail_to;
  // Empty: whoever the command sends as.
  std::string mail_from;

  bool Wants(std::string_view event) const;
};

inline constexpr std::string_view kWebhookEvents[] = {"sweep.finished", "sweep.paused", "trial.failed", "worker.lost"};

// None where there is no file. INVALID_ARGUMENT names the entry and what is wrong with it; FAILED_PRECONDITION for a
// file that others may read: it holds secrets.
absl::StatusOr<std::vector<Webhook>> ReadWebhooks(const std::string& path);

// What happened.
struct Notification {
  // The same for every attempt to deliver it: receivers drop repeats by it.
  std::string id;
  // One of kWebhookEvents.
  std::string event;
  absl::Time time;
  // "sweeps/a", "sweeps/a/trials/3", "workers/w1"; empty where there is none.
  std::string sweep;
  std::string trial;
  std::string worker;
  // One sentence.
  std::string message;
};

// For mail_to: a whole message (RFC 5322), its lines ended by line feeds as sendmail reads them. Else
// {"id", "event", "time", "sweep", "trial", "worker", "message"}; for Slack {"text": message}.
std::string BodyOf(const Webhook& webhook, const Notification& notification);

// Of the header Loupe-Signature: "t=UNIX_SECONDS,v1=HEX", where HEX is HMAC-SHA256 (RFC 2104) of "UNIX_SECONDS.BODY" by
// the webhook's secret. Receivers compare it, and refuse times that are minutes old.
std::string SignatureOf(const std::string& secret, absl::Time time, std::string_view body);

}  // namespace loupe::coordinator::notify

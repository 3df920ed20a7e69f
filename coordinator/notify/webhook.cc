#include "coordinator/notify/webhook.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "common/http_post.h"
#include "common/private_file.h"
#include "common/status_macros.h"
#include "common/text.h"
#include "fmt/format.h"

namespace loupe::coordinator::notify {
namespace {

using nlohmann::json;

constexpr size_t kLeastSecret = 16;
constexpr size_t kMostWebhooks = 100;

bool IsPlain(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c <= '~'; });
}

absl::StatusOr<std::string> TextOf(const json& entry, const char* key, const std::string& fallback) {
  const auto found = entry.find(key);
  if (found == entry.end()) return fallback;
  if (!found->is_string()) return absl::InvalidArgumentError(fmt::format("{}: expected a text", key));
  return found->get<std::string>();
}

// An address as it stands in a header: nothing that ends a line, or an address.
bool IsMailAddress(const std::string& text) {
  const size_t at = text.find('@');
  return IsPlain(text) && text.size() <= 254 && at != std::string::npos && at > 0 && at + 1 < text.size() &&
         text.find('@', at + 1) == std::string::npos && text.find_first_of(",;:<>()[]\\\"") == std::string::npos &&
         text.front() != '-';
}

absl::Status TakeMail(const json& entry, Webhook& webhook) {
  for (const char* other : {"url", "secret", "format", "allow_private"}) {
    if (entry.contains(other)) return absl::InvalidArgumentError(fmt::format("'{}' is no part of an e-mail", other));
  }
  const json& addresses = entry["email"];
  const auto good = [](const json& one) { return one.is_string() && IsMailAddress(one.get<std::string>()); };
  if (!addresses.is_array() || addresses.empty() || !std::all_of(addresses.begin(), addresses.end(), good))
    return absl::InvalidArgumentError("email: expected a list of addresses such as ops@example.org");
  webhook.mail_to = addresses.get<std::vector<std::string>>();
  LOUPE_ASSIGN_OR_RETURN(webhook.mail_from, TextOf(entry, "from", ""));
  if (!webhook.mail_from.empty() && !IsMailAddress(webhook.mail_from))
    return absl::InvalidArgumentError("from: expected an address such as loupe@example.org");
  return absl::OkStatus();
}

absl::Status TakeHttp(const json& entry, Webhook& webhook) {
  if (entry.contains("from")) return absl::InvalidArgumentError("'from' is a part of an e-mail alone");
  LOUPE_ASSIGN_OR_RETURN(const std::string url, TextOf(entry, "url", ""));
  LOUPE_ASSIGN_OR_RETURN(static_cast<HttpUrl&>(webhook), ParseHttpUrl(url));
  LOUPE_ASSIGN_OR_RETURN(webhook.secret, TextOf(entry, "secret", ""));
  if (webhook.secret.size() < kLeastSecret)
    return absl::InvalidArgumentError(fmt::format("secret: expected at least {} characters", kLeastSecret));
  LOUPE_ASSIGN_OR_RETURN(const std::string format, TextOf(entry, "format", "json"));
  if (format != "json" && format != "slack")
    return absl::InvalidArgumentError(fmt::format("format '{}': expected json or slack", format));
  webhook.slack = format == "slack";
  if (const auto allow = entry.find("allow_private"); allow != entry.end()) {
    if (!allow->is_boolean()) return absl::InvalidArgumentError("allow_private: expected true or false");
    webhook.allow_private = allow->get<bool>();
  }
  return absl::OkStatus();
}

absl::StatusOr<Webhook> WebhookOf(const json& entry) {
  if (!entry.is_object()) return absl::InvalidArgumentError("expected an object");
  static const std::set<std::string> kKeys = {"name",   "url",           "secret", "events",
                                              "format", "allow_private", "email",  "from"};
  for (const auto& [key, value] : entry.items()) {
    if (!kKeys.contains(key)) return absl::InvalidArgumentError(fmt::format("'{}' is no part of a webhook", key));
  }
  Webhook webhook;
  LOUPE_ASSIGN_OR_RETURN(webhook.name, TextOf(entry, "name", ""));
  if (!IsPlain(webhook.name) || webhook.name.size() > 80)
    return absl::InvalidArgumentError("name: expected 1 to 80 characters without spaces");
  LOUPE_RETURN_IF_ERROR(entry.contains("email") ? TakeMail(entry, webhook) : TakeHttp(entry, webhook));
  if (const auto events = entry.find("events"); events != entry.end()) {
    if (!events->is_array() || events->empty()) return absl::InvalidArgumentError("events: expected a list");
    for (const json& event : *events) {
      const bool known = event.is_string() && std::find(std::begin(kWebhookEvents), std::end(kWebhookEvents),
                                                        event.get<std::string>()) != std::end(kWebhookEvents);
      if (!known) {
        return absl::InvalidArgumentError(
            fmt::format("events: {} is none of sweep.finished, sweep.paused, trial.failed, worker.lost",
                        event.dump(-1, ' ', true, json::error_handler_t::replace)));
      }
      webhook.events.push_back(event.get<std::string>());
    }
  }
  return webhook;
}

// What happened is of others' making: it stands in the body alone, in which no line is a header.
std::string MailOf(const Webhook& webhook, const Notification& notification) {
  const std::string& about = !notification.trial.empty() ? notification.trial : notification.sweep;
  std::string mail = "To: ";
  for (const std::string& address : webhook.mail_to) mail += (mail.size() == 4 ? "" : ",\n ") + address;
  if (!webhook.mail_from.empty()) mail += "\nFrom: " + webhook.mail_from;
  mail += fmt::format(
      "\nSubject: [loupe] {} ({})\nDate: {}\nMessage-ID: <{}@loupe.invalid>\nAuto-Submitted: auto-generated\n"
      "MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n{}\n\n",
      notification.event, about,
      absl::FormatTime("%a, %d %b %Y %H:%M:%S +0000", notification.time, absl::UTCTimeZone()), notification.id,
      Printable(notification.message));
  for (const std::string* name : {&notification.sweep, &notification.trial, &notification.worker}) {
    if (!name->empty()) mail += Printable(*name) + "\n";
  }
  return mail;
}

}  // namespace

bool Webhook::Wants(std::string_view event) const {
  return events.empty() || std::find(events.begin(), events.end(), event) != events.end();
}

absl::StatusOr<std::vector<Webhook>> ReadWebhooks(const std::string& path) {
  const absl::StatusOr<std::string> text = ReadPrivateFile(path, "the file of webhooks");
  if (absl::IsNotFound(text.status())) return std::vector<Webhook>();
  LOUPE_RETURN_IF_ERROR(text.status());
  const json list = json::parse(*text, nullptr, /*allow_exceptions=*/false);
  if (!list.is_array() || list.size() > kMostWebhooks)
    return absl::InvalidArgumentError(
        fmt::format("'{}': expected a JSON list of at most {} webhooks", path, kMostWebhooks));
  std::vector<Webhook> webhooks;
  for (const json& entry : list) {
    absl::StatusOr<Webhook> webhook = WebhookOf(entry);
    const bool twice = webhook.ok() && std::any_of(webhooks.begin(), webhooks.end(),
                                                   [&](const Webhook& other) { return other.name == webhook->name; });
    if (twice) webhook = absl::InvalidArgumentError(fmt::format("the name '{}' is there twice", webhook->name));
    LOUPE_RETURN_IF_ERROR(Annotate(webhook.status(), fmt::format("'{}', webhook {}", path, webhooks.size() + 1)));
    webhooks.push_back(*std::move(webhook));
  }
  return webhooks;
}

std::string BodyOf(const Webhook& webhook, const Notification& notification) {
  if (!webhook.mail_to.empty()) return MailOf(webhook, notification);
  const auto dump = [](const json& body) { return body.dump(-1, ' ', false, json::error_handler_t::replace); };
  if (webhook.slack) return dump({{"text", notification.message}});
  return dump({{"id", notification.id},
               {"event", notification.event},
               {"time", absl::FormatTime(absl::RFC3339_sec, notification.time, absl::UTCTimeZone())},
               {"sweep", notification.sweep},
               {"trial", notification.trial},
               {"worker", notification.worker},
               {"message", notification.message}});
}

std::string SignatureOf(const std::string& secret, absl::Time time, std::string_view body) {
  const int64_t seconds = absl::ToUnixSeconds(time);
  const std::string text = fmt::format("{}.{}", seconds, body);
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  HMAC(EVP_sha256(), secret.data(), static_cast<int>(secret.size()),
       reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest, &size);
  std::string hex;
  for (unsigned int i = 0; i < size; ++i) hex += fmt::format("{:02x}", digest[i]);
  return fmt::format("t={},v1={}", seconds, hex);
}

}  // namespace loupe::coordinator::notify

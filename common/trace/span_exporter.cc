#include "common/trace/span_exporter.h"

#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "common/guarded.h"
#include "common/logging.h"
#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::trace {
namespace {

using nlohmann::json;

// Tries of one message, where the collector may have room later (OTLP: 429, 502, 503, 504), and the wait before the
// second; it doubles.
constexpr int kTries = 3;
constexpr absl::Duration kFirstWait = absl::Seconds(1);

std::string Environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// "%20" as a blank; nothing where it is cut off.
absl::StatusOr<std::string> Unescape(std::string_view text) {
  std::string bytes;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      bytes += text[i];
      continue;
    }
    const auto digit = [&](size_t at) {
      return at < text.size() && absl::ascii_isxdigit(static_cast<unsigned char>(text[at]));
    };
    if (!digit(i + 1) || !digit(i + 2)) return absl::InvalidArgumentError("a '%' without two hexadecimal digits");
    bytes += static_cast<char>(std::stoi(std::string(text.substr(i + 1, 2)), nullptr, 16));
    i += 2;
  }
  return bytes;
}

// Values may be secrets: no error shows them.
absl::Status AddHeaders(const std::string& text, HttpPost& post) {
  for (const absl::string_view part : absl::StrSplit(text, ',', absl::SkipWhitespace())) {
    const std::pair<absl::string_view, absl::string_view> header = absl::StrSplit(part, absl::MaxSplits('=', 1));
    const absl::string_view name = absl::StripAsciiWhitespace(header.first);
    const absl::StatusOr<std::string> value = Unescape(std::string(absl::StripAsciiWhitespace(header.second)));
    const auto is_token = [](char c) {
      return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' || c == '.';
    };
    const auto is_shown = [](char c) { return c >= ' ' && c <= '~'; };
    if (name.empty() || !std::all_of(name.begin(), name.end(), is_token) || !absl::StrContains(part, '=') ||
        !value.ok() || !std::all_of(value->begin(), value->end(), is_shown)) {
      return absl::InvalidArgumentError(
          fmt::format("OTEL_EXPORTER_OTLP_HEADERS: header {}: expected name=value,… with values percent-encoded",
                      post.headers.size()));
    }
    post.headers.emplace_back(std::string(name), *value);
  }
  return absl::OkStatus();
}

std::string Nanoseconds(absl::Time time) { return fmt::format("{}", absl::ToUnixNanos(time)); }

json Attribute(const std::string& key, const std::variant<std::string, int64_t, double>& value) {
  json any;
  if (const auto* text = std::get_if<std::string>(&value)) any["stringValue"] = *text;
  if (const auto* number = std::get_if<int64_t>(&value)) any["intValue"] = fmt::format("{}", *number);
  if (const auto* real = std::get_if<double>(&value)) any["doubleValue"] = *real;
  return {{"key", key}, {"value", any}};
}

json ToJson(const Span& span) {
  json object = {{"traceId", span.trace_id},
                 {"spanId", span.span_id},
                 {"name", span.name},
                 {"kind", static_cast<int>(span.kind)},
                 {"startTimeUnixNano", Nanoseconds(span.start)},
                 {"endTimeUnixNano", Nanoseconds(std::max(span.start, span.end))},
                 {"flags", 1}};
  if (!span.parent_id.empty()) object["parentSpanId"] = span.parent_id;
  for (const auto& [key, value] : span.attributes) object["attributes"].push_back(Attribute(key, value));
  // STATUS_CODE_ERROR; unset is what went well.
  if (!span.error.empty()) object["status"] = {{"code", 2}, {"message", span.error}};
  return object;
}

bool MayPass(const absl::StatusOr<int>& status) {
  return !status.ok() || *status == 429 || *status == 502 || *status == 503 || *status == 504;
}

}  // namespace

std::string ToOtlpJson(const std::vector<Span>& spans, const std::string& service, const std::string& version) {
  json list = json::array();
  for (const Span& span : spans) list.push_back(ToJson(span));
  const json resource = {
      {"attributes", json::array({Attribute("service.name", service), Attribute("service.version", version)})}};
  const json scope = {{"scope", {{"name", "loupe"}, {"version", version}}}, {"spans", list}};
  return json{{"resourceSpans", json::array({{{"resource", resource}, {"scopeSpans", json::array({scope})}}})}}.dump(
      -1, ' ', false, json::error_handler_t::replace);
}

bool SpanExporter::IsAsked(const std::string& endpoint) {
  if (absl::EqualsIgnoreCase(Environment("OTEL_SDK_DISABLED"), "true")) return false;
  return !endpoint.empty() || !Environment("OTEL_EXPORTER_OTLP_ENDPOINT").empty();
}

absl::StatusOr<std::unique_ptr<SpanExporter>> SpanExporter::Start(SpanExporterOptions options) {
  if (!IsAsked(options.endpoint)) return nullptr;
  if (options.endpoint.empty()) options.endpoint = Environment("OTEL_EXPORTER_OTLP_ENDPOINT");
  if (const std::string name = Environment("OTEL_SERVICE_NAME"); !name.empty()) options.service = name;
  HttpPost post;
  absl::StatusOr<HttpUrl> url = ParseHttpUrl(options.endpoint);
  if (!url.ok()) {
    return absl::InvalidArgumentError(fmt::format(
        "the OTLP endpoint (--otlp-endpoint or OTEL_EXPORTER_OTLP_ENDPOINT): {}", std::string(url.status().message())));
  }
  static_cast<HttpUrl&>(post) = *std::move(url);
  if (!post.target.ends_with('/')) post.target += '/';
  post.target += "v1/traces";
  post.headers = {{"Content-Type", "application/json"}, {"User-Agent", "loupe"}};
  LOUPE_RETURN_IF_ERROR(AddHeaders(Environment("OTEL_EXPORTER_OTLP_HEADERS"), post));
  // Whoever starts the program says where; a collector is most often this machine's.
  post.allow_private = true;
  return std::unique_ptr<SpanExporter>(new SpanExporter(std::move(options), std::move(post)));
}

SpanExporter::SpanExporter(SpanExporterOptions options, HttpPost post)
    : options_(std::move(options)), post_(std::move(post)), thread_([this] { Loop(); }) {}

SpanExporter::~SpanExporter() { Finish(); }

void SpanExporter::Finish() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void SpanExporter::Add(Span span) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (queue_.size() >= options_.most_waiting) {
      ++dropped_;
      return;
    }
    queue_.push_back(std::move(span));
  }
  changed_.notify_one();
}

void SpanExporter::Loop() {
  const auto interval = absl::ToChronoNanoseconds(options_.interval);
  std::unique_lock<std::mutex> lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
    changed_.wait_for(lock, interval, [this] { return stopping_ || queue_.size() >= options_.most_sent; });
    const bool last = stopping_;
    // At the end all at once: there is time for one message.
    const size_t count = last ? queue_.size() : std::min(queue_.size(), options_.most_sent);
    const auto end = queue_.begin() + static_cast<ptrdiff_t>(count);
    const std::vector<Span> spans(std::make_move_iterator(queue_.begin()), std::make_move_iterator(end));
    queue_.erase(queue_.begin(), end);
    lock.unlock();
    if (!spans.empty()) GuardedTurn("sending spans", [&] { Send(spans, last); });
    if (last) return;
    lock.lock();
  }
}

void SpanExporter::Send(const std::vector<Span>& spans, bool last) {
  post_.body = ToOtlpJson(spans, options_.service, options_.version);
  absl::Duration wait = kFirstWait;
  absl::StatusOr<int> status = Post(post_, last ? options_.last_timeout : options_.timeout);
  for (int tries = 1; tries < kTries && MayPass(status) && !last; ++tries, wait *= 2) {
    std::unique_lock<std::mutex> lock(mutex_);
    last = changed_.wait_for(lock, absl::ToChronoNanoseconds(wait), [this] { return stopping_; });
    lock.unlock();
    status = Post(post_, last ? options_.last_timeout : options_.timeout);
  }
  const bool taken = status.ok() && *status >= 200 && *status < 300;
  (taken ? sent_ : dropped_) += static_cast<int64_t>(spans.size());
  if (!options_.logs) return;
  if (!taken && !failing_) {
    LogWarning("spans are lost: the collector at {} {}", options_.endpoint,
               status.ok() ? fmt::format("answered {}", *status) : std::string(status.status().message()));
  } else if (taken && failing_) {
    LogInfo("the collector at {} takes spans again", options_.endpoint);
  }
  failing_ = !taken;
}

}  // namespace loupe::trace

#include "worker/executor/attempt_log.h"

#include <memory>
#include <string>

#include "spdlog/sinks/sink.h"
#include "spdlog/spdlog.h"

namespace loupe::worker::executor {
namespace {

thread_local AttemptObserver* current = nullptr;

// Has no state of its own: it may be asked from any thread.
class AttemptSink final : public spdlog::sinks::sink {
 public:
  AttemptSink() { set_level(spdlog::level::info); }

  void log(const spdlog::details::log_msg& message) override {
    AttemptObserver* const observer = current;
    if (observer == nullptr) return;
    const AttemptLogScope nobody(nullptr);  // should it log, it is not told of that
    observer->OnLog(message.level >= spdlog::level::err    ? LogLevel::kError
                    : message.level == spdlog::level::warn ? LogLevel::kWarning
                                                           : LogLevel::kInfo,
                    {message.payload.data(), message.payload.size()});
  }
  void flush() override {}
  void set_pattern(const std::string&) override {}
  void set_formatter(std::unique_ptr<spdlog::formatter>) override {}
};

}  // namespace

AttemptLogScope::AttemptLogScope(AttemptObserver* observer) : before_(current) { current = observer; }

AttemptLogScope::~AttemptLogScope() { current = before_; }

void TellAttemptsWhatIsLogged() { spdlog::default_logger()->sinks().push_back(std::make_shared<AttemptSink>()); }

}  // namespace loupe::worker::executor

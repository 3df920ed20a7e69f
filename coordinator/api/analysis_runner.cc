#include "coordinator/api/analysis_runner.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <optional>
#include <utility>

#include "common/error_details.h"
#include "common/logging.h"
#include "common/program_start.h"
#include "common/sha256.h"
#include "fmt/format.h"

namespace loupe::coordinator::api {
namespace {

// How soon a process ends that nobody waits for any more.
constexpr int kLookMs = 50;
// An HTML report carries at most 24 MiB of pictures (report.h); a table of a million trials is smaller.
constexpr size_t kMaxAnswerBytes = size_t{256} << 20;

std::shared_ptr<const AnalysisAnswer> Refusal(absl::Status status) {
  return std::make_shared<const AnalysisAnswer>(AnalysisAnswer{std::move(status), ""});
}

// A file descriptor that closes itself.
class File {
 public:
  explicit File(int fd) : fd_(fd) {}
  ~File() { Close(); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  int get() const { return fd_; }
  void Close() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }

 private:
  int fd_;
};

int Spawn(const std::vector<std::string>& command, int input, int output, pid_t& pid) {
  const std::vector<char*> arguments = ArgumentsOf(command);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
  ::posix_spawn_file_actions_addclosefrom_np(&actions, 3);
  posix_spawnattr_t attributes;
  ::posix_spawnattr_init(&attributes);
  // The coordinator's threads have SIGTERM and SIGINT blocked.
  sigset_t none;
  sigemptyset(&none);
  ::posix_spawnattr_setsigmask(&attributes, &none);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
  const int error = ::posix_spawn(&pid, arguments[0], &actions, &attributes, arguments.data(), environ);
  ::posix_spawnattr_destroy(&attributes);
  ::posix_spawn_file_actions_destroy(&actions);
  return error;
}

}  // namespace

struct AnalysisRunner::Job {
  std::string key;
  std::string client;
  std::string input;
  // Who waits; guarded by the runner's lock.
  std::map<uint64_t, Done> waiters;
  std::atomic<bool> abandoned{false};
};

AnalysisRunner::AnalysisRunner(const AnalysisOptions& options, std::string data_folder)
    : options_(options), data_folder_(std::move(data_folder)) {
  for (int i = 0; i < options_.processes; ++i) threads_.emplace_back([this] { Loop(); });
}

AnalysisRunner::~AnalysisRunner() {
  Stop();
  for (std::thread& thread : threads_) thread.join();
}

uint64_t AnalysisRunner::Run(const std::string& client, const std::string& data_version, const std::string& job,
                             Done done) {
  const std::string key = Sha256Hex(data_version + "\n" + job);
  std::shared_ptr<const AnalysisAnswer> at_once;
  uint64_t id = 0;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    id = next_id_++;
    const auto kept = std::find_if(kept_.begin(), kept_.end(), [&](const Kept& one) { return one.key == key; });
    if (stopping_) {
      at_once = Refusal(absl::UnavailableError("the coordinator is stopping"));
    } else if (kept != kept_.end()) {
      kept_.splice(kept_.begin(), kept_, kept);
      at_once = kept->answer;
    } else if (const auto found = jobs_.find(key); found != jobs_.end() && !found->second->abandoned) {
      found->second->waiters.emplace(id, std::move(done));
      keys_.emplace(id, key);
    } else if (per_client_[client] >= options_.most_per_client ||
               jobs_.size() >= 8 * static_cast<size_t>(options_.most_per_client)) {
      at_once = Refusal(WithRetryAfter(
          WithReason(absl::ResourceExhaustedError(fmt::format(
                         "{} analyses are under way or wait, {} of them for {}: wait for some, then try again",
                         jobs_.size(), per_client_[client], client)),
                     kReasonRateLimited),
          absl::Seconds(1)));
      if (per_client_[client] == 0) per_client_.erase(client);
    } else {
      auto made = std::make_shared<Job>();
      made->key = key;
      made->client = client;
      made->input = job;
      made->waiters.emplace(id, std::move(done));
      keys_.emplace(id, key);
      jobs_[key] = made;
      ++per_client_[client];
      if (!waiting_.contains(client)) turns_.push_back(client);
      waiting_[client].push_back(std::move(made));
    }
  }
  if (at_once != nullptr) {
    done(std::move(at_once));
  } else {
    changed_.notify_one();
  }
  return id;
}

void AnalysisRunner::Cancel(uint64_t id) {
  Done done;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto key = keys_.find(id);
    if (key == keys_.end()) return;
    const auto job = jobs_.find(key->second);
    keys_.erase(key);
    if (job == jobs_.end()) return;
    const auto waiter = job->second->waiters.find(id);
    if (waiter == job->second->waiters.end()) return;
    done = std::move(waiter->second);
    job->second->waiters.erase(waiter);
    if (job->second->waiters.empty()) {
      job->second->abandoned = true;
      Withdraw(std::shared_ptr<Job>(job->second));
    }
  }
  done(Refusal(absl::CancelledError("the caller has hung up")));
}

void AnalysisRunner::Withdraw(const std::shared_ptr<Job>& job) {
  const auto queue = waiting_.find(job->client);
  if (queue == waiting_.end()) return;
  const auto at = std::find(queue->second.begin(), queue->second.end(), job);
  if (at == queue->second.end()) return;
  queue->second.erase(at);
  if (queue->second.empty()) {
    waiting_.erase(queue);
    turns_.remove(job->client);
  }
  jobs_.erase(job->key);
  if (--per_client_[job->client] == 0) per_client_.erase(job->client);
}

void AnalysisRunner::Stop() {
  std::vector<Done> unanswered;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
    for (const auto& [key, job] : jobs_) {
      for (auto& [id, done] : job->waiters) unanswered.push_back(std::move(done));
      job->waiters.clear();
      job->abandoned = true;
    }
    keys_.clear();
  }
  changed_.notify_all();
  for (const Done& done : unanswered) done(Refusal(absl::UnavailableError("the coordinator is stopping")));
}

int64_t AnalysisRunner::started() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return started_;
}

void AnalysisRunner::Keep(const std::string& key, std::shared_ptr<const AnalysisAnswer> answer) {
  const auto bytes = [](const Kept& one) {
    return static_cast<int64_t>(one.answer->payload.size() + one.key.size() + 256);
  };
  kept_.push_front({key, std::move(answer)});
  kept_bytes_ += bytes(kept_.front());
  while (kept_bytes_ > options_.cache_bytes) {
    kept_bytes_ -= bytes(kept_.back());
    kept_.pop_back();
  }
}

void AnalysisRunner::Loop() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stopping_ || !turns_.empty(); });
    if (stopping_) return;
    const std::string client = turns_.front();
    turns_.pop_front();
    std::deque<std::shared_ptr<Job>>& queue = waiting_[client];
    const std::shared_ptr<Job> job = queue.front();
    queue.pop_front();
    if (queue.empty()) {
      waiting_.erase(client);
    } else {
      turns_.push_back(client);
    }
    std::shared_ptr<const AnalysisAnswer> answer;
    if (!job->abandoned) {
      ++started_;
      lock.unlock();
      answer = std::make_shared<const AnalysisAnswer>(RunProcess(*job));
      lock.lock();
    }
    const bool reproducible =
        answer != nullptr && !job->abandoned &&
        (answer->status.ok() || absl::IsFailedPrecondition(answer->status) || absl::IsInvalidArgument(answer->status));
    if (reproducible) Keep(job->key, answer);
    if (--per_client_[client] == 0) per_client_.erase(client);
    // An abandoned job may have been followed by another of the same key.
    if (const auto found = jobs_.find(job->key); found != jobs_.end() && found->second == job) jobs_.erase(found);
    const std::map<uint64_t, Done> waiters = std::exchange(job->waiters, {});
    for (const auto& [id, done] : waiters) keys_.erase(id);
    lock.unlock();
    for (const auto& [id, done] : waiters) done(answer);
    lock.lock();
  }
}

AnalysisAnswer AnalysisRunner::RunProcess(const Job& job) {
  const auto cannot = [](const char* what, int error) {
    return AnalysisAnswer{absl::UnavailableError(fmt::format("the analysis cannot be started ({}: {}): try again", what,
                                                             std::strerror(error))),
                          ""};
  };
  std::optional<MemoryFile> input(std::in_place, "analysis-job", job.input);
  if (!input->good()) return cannot("memfd_create", errno);
  int ends[2] = {-1, -1};
  if (::pipe2(ends, O_CLOEXEC) != 0) return cannot("pipe", errno);
  File output(ends[0]);
  File childs_output(ends[1]);
  std::vector<std::string> command = options_.program;
  command.insert(command.end(),
                 {"--data", data_folder_, "--memory-mb", fmt::format("{}", options_.memory_bytes >> 20)});
  pid_t pid = -1;
  if (const int error = Spawn(command, input->fd(), childs_output.get(), pid); error != 0)
    return cannot("spawn", error);
  input.reset();
  childs_output.Close();

  std::string bytes;
  absl::Status ended;
  const auto deadline = std::chrono::steady_clock::now() + absl::ToChronoMilliseconds(options_.longest);
  std::string buffer(1 << 16, '\0');
  while (true) {
    if (job.abandoned) ended = absl::CancelledError("the caller has hung up");
    if (std::chrono::steady_clock::now() > deadline) {
      ended = absl::DeadlineExceededError(
          fmt::format("the analysis took longer than {}", absl::FormatDuration(options_.longest)));
    }
    if (bytes.size() > kMaxAnswerBytes)
      ended = absl::OutOfRangeError("the report is larger than 256 MiB: ask for fewer trials or another format");
    if (!ended.ok()) break;
    pollfd waited{.fd = output.get(), .events = POLLIN, .revents = 0};
    if (::poll(&waited, 1, kLookMs) <= 0) continue;
    const ssize_t got = ::read(output.get(), buffer.data(), buffer.size());
    if (got > 0) bytes.append(buffer.data(), static_cast<size_t>(got));
    if (got == 0) break;
  }
  if (!ended.ok()) ::kill(pid, SIGKILL);
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (!ended.ok()) return {ended, ""};
  if (WIFSIGNALED(status)) {
    LogError("an analysis was ended by signal {} ({}); the coordinator goes on", WTERMSIG(status),
             strsignal(WTERMSIG(status)));
    return {absl::InternalError(fmt::format(
                "the analysis process was ended by signal {} ({}): this is a fault of Loupe's, or the machine "
                "has too little memory; the sweep and its results are not affected",
                WTERMSIG(status), strsignal(WTERMSIG(status)))),
            ""};
  }
  absl::StatusOr<AnalysisAnswer> answer = DecodeAnswer(bytes);
  if (answer.ok()) return *std::move(answer);
  LogError("an analysis ended with exit code {} and without an answer; the coordinator goes on", WEXITSTATUS(status));
  return {absl::InternalError(
              fmt::format("{} (exit code {})", std::string(answer.status().message()), WEXITSTATUS(status))),
          ""};
}

}  // namespace loupe::coordinator::api

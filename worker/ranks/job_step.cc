#include "worker/ranks/job_step.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <map>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "common/atomic_file.h"
#include "common/logging.h"
#include "common/program_start.h"
#include "common/random_source.h"
#include "fmt/format.h"
#include "worker/ranks/rank_meeting.h"
#include "worker/ranks/rank_processes.h"
#include "worker/ranks/step_channel.h"
#include "worker/ranks/step_hub.h"
#include "worker/ranks/step_store.h"

namespace loupe::worker::ranks {
namespace {

constexpr int kLookMs = 20;
constexpr char kStart[] = "start", kStop[] = "stop", kBye[] = "bye", kEnded[] = "ended";

// "word number\nrest".
struct StepMessage {
  std::string word;
  int64_t number = 0;
  std::string rest;

  std::string Encode() const { return fmt::format("{} {}\n{}", word, number, rest); }
  static StepMessage Decode(const std::string& text) {
    const size_t space = text.find(' '), line = text.find('\n');
    StepMessage message;
    if (space == std::string::npos || line == std::string::npos || space > line ||
        !absl::SimpleAtoi(text.substr(space + 1, line - space - 1), &message.number)) {
      throw std::runtime_error("another task of the job step says something unexpected");
    }
    message.word = text.substr(0, space);
    message.rest = text.substr(line + 1);
    return message;
  }
};

absl::StatusOr<int> Variable(const char* name) {
  int value = 0;
  const char* text = std::getenv(name);
  if (text == nullptr || !absl::SimpleAtoi(text, &value) || value < 0) {
    return absl::FailedPreconditionError(
        fmt::format("{} is {}: this is no task of a job step of Slurm (srun --ntasks=N loupe-worker run …)", name,
                    text == nullptr ? "not set" : fmt::format("'{}'", text)));
  }
  return value;
}

// Of one node: its loopback. Of several: those of this machine's interfaces that others may reach.
std::vector<std::string> OwnAddresses(int nodes) {
  if (nodes <= 1) return {"127.0.0.1"};
  std::vector<std::string> found;
  ifaddrs* all = nullptr;
  if (::getifaddrs(&all) != 0)
    throw std::runtime_error(fmt::format("no interface can be listed ({})", strerror(errno)));
  for (const ifaddrs* one = all; one != nullptr; one = one->ifa_next) {
    if (one->ifa_addr == nullptr || one->ifa_addr->sa_family != AF_INET) continue;
    if ((one->ifa_flags & IFF_UP) == 0 || (one->ifa_flags & IFF_LOOPBACK) != 0) continue;
    std::array<char, INET_ADDRSTRLEN> text{};
    const auto* address = reinterpret_cast<const sockaddr_in*>(one->ifa_addr);
    if (::inet_ntop(AF_INET, &address->sin_addr, text.data(), text.size()) != nullptr) found.emplace_back(text.data());
  }
  ::freeifaddrs(all);
  if (found.empty()) throw std::runtime_error("this machine has no address that other nodes could reach");
  return found;
}

// On a port that the kernel chooses.
int ListenOn(bool loopback, int& port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in own{};
  own.sin_family = AF_INET;
  own.sin_addr.s_addr = htonl(loopback ? INADDR_LOOPBACK : INADDR_ANY);
  socklen_t size = sizeof own;
  if (fd == -1 || ::bind(fd, reinterpret_cast<const sockaddr*>(&own), size) != 0 || ::listen(fd, 128) != 0 ||
      ::getsockname(fd, reinterpret_cast<sockaddr*>(&own), &size) != 0) {
    const int error = errno;
    if (fd != -1) ::close(fd);
    throw std::runtime_error(fmt::format("cannot listen for the job step's other tasks ({})", strerror(error)));
  }
  port = ntohs(own.sin_port);
  return fd;
}

}  // namespace

absl::StatusOr<StepPlace> StepPlace::OfThisTask(const std::string& file) {
  StepPlace place{.file = file};
  for (const auto& [name, into] : {std::pair<const char*, int*>{"SLURM_PROCID", &place.task},
                                   {"SLURM_STEP_NUM_TASKS", &place.tasks},
                                   {"SLURM_STEP_NUM_NODES", &place.nodes},
                                   {"SLURM_LOCALID", &place.local}}) {
    const absl::StatusOr<int> value = Variable(name);
    if (!value.ok()) return value.status();
    *into = *value;
  }
  return place;
}

struct StepHub::Impl {
  explicit Impl(const StepPlace& its_place) : place(its_place) {}

  void AcceptAll();
  // A thread's work: one connection, until it ends.
  void Serve(int fd);
  void ServeHost(const StepHello& hello, StepChannel& channel);
  void SendTo(StepChannel& host, const StepMessage& message);

  const StepPlace place;
  std::string secret;
  int listener = -1;
  std::thread accepting;

  std::mutex mutex;
  bool closing = false;
  std::map<int64_t, std::thread> threads;
  int64_t next_thread = 0;
  std::vector<int64_t> finished;  // of `threads`
  std::vector<StepChannel*> channels;
  std::map<int, StepChannel*> hosts;  // by rank
  std::string interface = "127.0.0.1";
  int64_t job_number = 0;
  std::string job;  // empty: none
  int ranks = 0;
  std::shared_ptr<RankMeeting> meeting;
  std::string ended;      // a rank of this job
  std::string host_gone;  // for good
};

StepHub::StepHub(const StepPlace& place) : impl_(std::make_unique<Impl>(place)) {
  StepFile file{.addresses = OwnAddresses(place.nodes)};
  file.secret = ToHex(SystemRandom().NextToken()) + ToHex(SystemRandom().NextToken());
  impl_->secret = file.secret;
  impl_->interface = file.addresses.front();
  impl_->listener = ListenOn(place.nodes <= 1, file.port);
  if (const absl::Status written = WriteFileAtomically(place.file, file.Encode(), 0600); !written.ok()) {
    ::close(impl_->listener);
    throw std::runtime_error(std::string(written.message()));
  }
  impl_->accepting = std::thread([this] { impl_->AcceptAll(); });
}

StepHub::~StepHub() {
  ::unlink(impl_->place.file.c_str());
  std::map<int64_t, std::thread> threads;
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->closing = true;
    for (const auto& [rank, host] : impl_->hosts) impl_->SendTo(*host, {.word = kBye});
    for (StepChannel* channel : impl_->channels) channel->Shutdown();
    threads.swap(impl_->threads);
  }
  ::shutdown(impl_->listener, SHUT_RDWR);
  impl_->accepting.join();
  for (auto& [number, thread] : threads) thread.join();
  ::close(impl_->listener);
}

int StepHub::tasks() const { return impl_->place.tasks; }

void StepHub::Impl::AcceptAll() {
  for (;;) {
    const int fd = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    const int error = errno;
    const std::lock_guard lock(mutex);
    if (closing) {
      if (fd != -1) ::close(fd);
      return;
    }
    for (const int64_t number : finished) {
      threads.at(number).join();
      threads.erase(number);
    }
    finished.clear();
    if (fd != -1) {
      const int64_t number = next_thread++;
      threads[number] = std::thread([this, fd, number] {
        Serve(fd);
        const std::lock_guard at_end(mutex);
        finished.push_back(number);
      });
    } else if (error != EINTR && error != ECONNABORTED) {
      host_gone = fmt::format("the job step's tasks cannot reach this one any more ({})", strerror(error));
      return;
    }
  }
}

void StepHub::Impl::SendTo(StepChannel& host, const StepMessage& message) {
  try {
    host.Send(message.Encode());
  } catch (const std::exception&) {
    // Whoever receives from it hears of that too.
  }
}

void StepHub::Impl::Serve(int fd) {
  StepHello hello;
  const std::unique_ptr<StepChannel> channel = StepChannel::Accept(fd, secret, hello);
  if (channel == nullptr) {
    LogWarning("a connection was refused: it is none of this job step's tasks");
    return;
  }
  std::shared_ptr<RankMeeting> its_meeting;
  {
    const std::lock_guard lock(mutex);
    const bool none = hello.rank < 1 || hello.rank >= place.tasks;
    const bool taken = hello.kind == StepHello::Kind::kHost && hosts.contains(hello.rank);
    const bool stale = hello.kind == StepHello::Kind::kStore && hello.job_number != job_number;
    if (closing || none || taken || stale) return;
    channels.push_back(channel.get());
    its_meeting = meeting;
    if (hello.kind == StepHello::Kind::kHost) {
      hosts[hello.rank] = channel.get();
      if (!job.empty() && hello.rank < ranks) SendTo(*channel, {kStart, job_number, job});
    }
  }
  try {
    if (hello.kind == StepHello::Kind::kStore) {
      ServeStore(*channel, *its_meeting);
    } else {
      ServeHost(hello, *channel);
    }
  } catch (const std::exception& error) {
    const std::lock_guard lock(mutex);
    if (hello.kind == StepHello::Kind::kHost && !closing) {
      host_gone = fmt::format("rank {}: its task of the job step is gone", hello.rank);
      LogError("{}", host_gone);
    }
  }
  const std::lock_guard lock(mutex);
  std::erase(channels, channel.get());
  if (hello.kind == StepHello::Kind::kHost) hosts.erase(hello.rank);
}

void StepHub::Impl::ServeHost(const StepHello& /*hello*/, StepChannel& channel) {
  for (;;) {
    const StepMessage message = StepMessage::Decode(channel.Receive());
    const std::lock_guard lock(mutex);
    if (message.word == kEnded && message.number == job_number && ended.empty()) ended = message.rest;
  }
}

RankGroup::Options StepHub::Start(const std::string& job, int ranks) {
  const std::lock_guard lock(impl_->mutex);
  ++impl_->job_number;
  impl_->job = job;
  impl_->ranks = ranks;
  impl_->ended.clear();
  impl_->meeting = MeetInMemory();
  for (const auto& [rank, host] : impl_->hosts) {
    if (rank < ranks) impl_->SendTo(*host, {kStart, impl_->job_number, job});
  }
  return {.meeting = impl_->meeting, .interface = impl_->interface, .rank = 0, .ranks = ranks};
}

std::string StepHub::WhyEnded() {
  const std::lock_guard lock(impl_->mutex);
  return impl_->ended.empty() ? impl_->host_gone : impl_->ended;
}

std::string StepHub::WhyUnable() {
  const std::lock_guard lock(impl_->mutex);
  return impl_->host_gone;
}

void StepHub::Stop() {
  const std::lock_guard lock(impl_->mutex);
  impl_->job.clear();
  for (const auto& [rank, host] : impl_->hosts) impl_->SendTo(*host, {kStop, impl_->job_number, ""});
}

absl::StatusOr<std::shared_ptr<StepHub>> OpenStep(const StepPlace& place) {
  try {
    return std::make_shared<StepHub>(place);
  } catch (const std::exception& error) {
    return absl::InternalError(error.what());
  }
}

absl::Status HostRank(const StepPlace& place, const std::string& program, const std::string& device,
                      std::chrono::milliseconds patience) {
  // Whoever ends the step sends them to all of its tasks: task 0 drains, and this one ends when that has.
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2}) ::signal(signal, SIG_IGN);
  const auto until = std::chrono::steady_clock::now() + patience;
  std::unique_ptr<StepChannel> channel;
  while (channel == nullptr) {
    try {
      channel = StepChannel::Connect(StepFile::Read(place.file), {.rank = place.task});
    } catch (const std::exception& error) {
      // Task 0 may not be up yet, or a file of an earlier step still lie there.
      if (std::chrono::steady_clock::now() >= until) return absl::UnavailableError(error.what());
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
  }
  std::unique_ptr<MemoryFile> job;
  std::unique_ptr<RankProcesses> rank;
  int64_t number = 0;
  try {
    for (;;) {
      if (rank != nullptr) {
        if (const std::string why = rank->WhyEnded(); !why.empty()) {
          rank.reset();
          channel->Send(StepMessage{kEnded, number, why}.Encode());
        }
      }
      if (!channel->Readable(kLookMs)) continue;
      const StepMessage message = StepMessage::Decode(channel->Receive());
      rank.reset();
      if (message.word == kBye) return absl::OkStatus();
      if (message.word != kStart) continue;
      number = message.number;
      job = std::make_unique<MemoryFile>("rank-job", message.rest);
      rank = std::make_unique<RankProcesses>(
          program,
          std::vector<std::vector<std::string>>{{"rank", "--job", fmt::format("/proc/{}/fd/{}", ::getpid(), job->fd()),
                                                 "--rank", std::to_string(place.task), "--parent",
                                                 std::to_string(::getpid()), "--device", device, "--step-file",
                                                 place.file, "--job-number", std::to_string(number)}},
          place.task);
    }
  } catch (const std::exception& error) {
    return absl::UnavailableError(error.what());
  }
}

RankGroup::Options JoinStep(const std::string& file, int rank, int64_t job_number) {
  std::shared_ptr<StepChannel> channel =
      StepChannel::Connect(StepFile::Read(file), {StepHello::Kind::kStore, rank, job_number});
  const std::string interface = channel->local_address();
  return {.meeting = MeetOver(std::move(channel)), .interface = interface, .rank = rank};
}

}  // namespace loupe::worker::ranks

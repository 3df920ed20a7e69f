#include "worker/ranks/step_store.h"

#include <chrono>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <torch/csrc/distributed/c10d/FileStore.hpp>
#include <torch/csrc/distributed/c10d/HashStore.hpp>
#include <utility>
#include <vector>

#include "nlohmann/json.hpp"

namespace loupe::worker::ranks {
namespace {

using Bytes = std::vector<uint8_t>;

std::string Packed(const nlohmann::json& json) {
  const Bytes bytes = nlohmann::json::to_msgpack(json);
  return {bytes.begin(), bytes.end()};
}

nlohmann::json BinaryOf(const Bytes& bytes) { return nlohmann::json::binary(bytes); }
Bytes BytesOf(const nlohmann::json& json) { return json.get_binary(); }

// Whatever blocks is asked for again and again, so that task 0 never waits in another's name.
class RemoteStore : public c10d::Store {
 public:
  explicit RemoteStore(std::shared_ptr<StepChannel> channel,
                       std::shared_ptr<std::mutex> mutex = std::make_shared<std::mutex>())
      : channel_(std::move(channel)), mutex_(std::move(mutex)) {}

  // Not in every LibTorch.
  c10::intrusive_ptr<c10d::Store> clone() { return c10::make_intrusive<RemoteStore>(channel_, mutex_); }

  using c10d::Store::set;
  void set(const std::string& key, const Bytes& value) override { Ask({"set", key, BinaryOf(value)}); }
  Bytes get(const std::string& key) override {
    wait({key});
    return BytesOf(Ask({"get", key}));
  }
  int64_t add(const std::string& key, int64_t value) override { return Ask({"add", key, value}); }
  bool deleteKey(const std::string& key) override { return Ask({"delete", key}); }
  bool check(const std::vector<std::string>& keys) override { return Ask({"check", keys}); }
  int64_t getNumKeys() override { return Ask({"count"}); }
  void wait(const std::vector<std::string>& keys) override { wait(keys, timeout_); }
  void wait(const std::vector<std::string>& keys, const std::chrono::milliseconds& timeout) override {
    const auto until = std::chrono::steady_clock::now() + timeout;
    while (!check(keys)) {
      if (std::chrono::steady_clock::now() >= until) throw std::runtime_error("another rank has not come in time");
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  }

 private:
  nlohmann::json Ask(const nlohmann::json& question) {
    const std::lock_guard lock(*mutex_);
    channel_->Send(Packed(question));
    return nlohmann::json::from_msgpack(channel_->Receive());
  }

  const std::shared_ptr<StepChannel> channel_;
  const std::shared_ptr<std::mutex> mutex_;
};

nlohmann::json Answer(c10d::Store& store, const nlohmann::json& question) {
  const std::string what = question.at(0);
  if (what == "set") {
    store.set(question.at(1).get<std::string>(), BytesOf(question.at(2)));
    return true;
  }
  if (what == "get") return BinaryOf(store.get(question.at(1)));
  if (what == "add") return store.add(question.at(1), question.at(2));
  if (what == "delete") return store.deleteKey(question.at(1));
  if (what == "check") return store.check(question.at(1).get<std::vector<std::string>>());
  if (what == "count") return store.getNumKeys();
  throw std::runtime_error("another task of the job step asks for something unknown");
}

}  // namespace

std::shared_ptr<RankMeeting> MeetInFile(const std::string& path) {
  // Told no number of users: the file goes with its folder, and not when the last of them ends.
  return std::make_shared<RankMeeting>(RankMeeting{c10::make_intrusive<c10d::FileStore>(path, -1)});
}

std::shared_ptr<RankMeeting> MeetInMemory() {
  return std::make_shared<RankMeeting>(RankMeeting{c10::make_intrusive<c10d::HashStore>()});
}

std::shared_ptr<RankMeeting> MeetOver(std::shared_ptr<StepChannel> channel) {
  return std::make_shared<RankMeeting>(RankMeeting{c10::make_intrusive<RemoteStore>(std::move(channel))});
}

void ServeStore(StepChannel& channel, RankMeeting& meeting) {
  for (;;) {
    nlohmann::json answer;
    try {
      answer = Answer(*meeting.store, nlohmann::json::from_msgpack(channel.Receive()));
    } catch (const nlohmann::json::exception& error) {
      throw std::runtime_error(error.what());
    }
    channel.Send(Packed(answer));
  }
}

}  // namespace loupe::worker::ranks

// Where the ranks of a trial find each other: c10d's key-value store, in one of three places.
#pragma once

#include <memory>
#include <string>
#include <torch/csrc/distributed/c10d/Store.hpp>

namespace loupe::worker::ranks {

struct RankMeeting {
  c10::intrusive_ptr<c10d::Store> store;
};

// In a file: of processes of one machine. A path at which there was no file before.
std::shared_ptr<RankMeeting> MeetInFile(const std::string& path);
// In this process, for others that reach it (step_store.h).
std::shared_ptr<RankMeeting> MeetInMemory();

}  // namespace loupe::worker::ranks

// A meeting in task 0's memory, and the same seen by another task through its connection.
#pragma once

#include <memory>

#include "worker/ranks/rank_meeting.h"
#include "worker/ranks/step_channel.h"

namespace loupe::worker::ranks {

// Answers what MeetOver's side asks, until the connection ends: throws std::runtime_error then.
[[noreturn]] void ServeStore(StepChannel& channel, RankMeeting& meeting);

// The store is used by one thread at a time.
std::shared_ptr<RankMeeting> MeetOver(std::shared_ptr<StepChannel> channel);

}  // namespace loupe::worker::ranks

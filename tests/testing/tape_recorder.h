// A recorder on the CPU that repeats as a GPU's graphs do: the same operators with the same memory and the same
// numbers, whatever the code around them would do by now. Reading a value back in a recorded call is an error, as
// there.
//
// It sees LibTorch's operators alone. What writes by itself, as the kernels of worker/kernels do, is not repeated: use
// it with ATEN_CPU_CAPABILITY=default, where those stand back.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "worker/runtime/recorded_call.h"

namespace loupe::testing {

class TapeRecorder : public worker::runtime::Recorder {
 public:
  void Run(const std::function<void()>& work) override { work(); }
  std::unique_ptr<worker::runtime::Recording> Record(const std::function<void()>& work) override;

  int64_t recordings() const { return recordings_; }
  int64_t replays() const { return *replays_; }
  // The last operator of each recording is left out from now on.
  void Damage() { damages_ = true; }

 private:
  int64_t recordings_ = 0;
  std::shared_ptr<int64_t> replays_ = std::make_shared<int64_t>(0);
  bool damages_ = false;
};

}  // namespace loupe::testing

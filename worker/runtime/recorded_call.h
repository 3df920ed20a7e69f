// Work that is described to a device once and then repeated: a step of thousands of small kernels, which a GPU computes
// faster than a CPU can start them one by one, becomes one call (CUDA graphs; NVIDIA, CUDA C++ Programming Guide).
//
// What is repeated are the kernels, with the memory and the numbers that they were given when they were recorded. So
// all that differs between calls has to be in tensors, nothing may be read back in between, and nothing may be copied
// from the CPU's memory. Nobody has to be trusted with that: before a recording is used it must have done a whole call
// on other inputs, bit for bit as the operators do it.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace loupe::worker::runtime {

class Recording {
 public:
  virtual ~Recording() = default;
  // The same kernels again, in order, behind what the device has to do already.
  virtual void Replay() = 0;
};

// Of one device. One thread at a time.
class Recorder {
 public:
  virtual ~Recorder() = default;
  // Runs the work where recordings are made (a GPU's own stream), unrecorded: what is made once, in a first call, must
  // be there before.
  virtual void Run(const std::function<void()>& work) = 0;
  // Runs the work on the CPU's side. Whether the device computes anything is the recorder's; what the work writes into
  // is undefined afterwards. Tensors that are made stay with the recording. Throws what the work throws, and where it
  // does what cannot be recorded.
  virtual std::unique_ptr<Recording> Record(const std::function<void()>& work) = 0;
};

// One function of tensors, called again and again with the same shapes. Not thread-safe.
class RecordedCall {
 public:
  using Tensors = std::vector<torch::Tensor>;
  using Function = std::function<Tensors(const Tensors& inputs)>;

  // A recorder of null: the function is called. `what` stands in the log ("a training step").
  RecordedCall(Recorder* recorder, std::string what) : recorder_(recorder), what_(std::move(what)) {}
  RecordedCall(const RecordedCall&) = delete;
  RecordedCall& operator=(const RecordedCall&) = delete;

  // f(inputs), which besides writes into `changes`: tensors that are the same ones in all calls. What f does otherwise
  // depends on `key` alone, whose change, as that of a shape, begins anew. The first two calls are f's own, after the
  // second one it is recorded, the third is done in both ways. Where they differ, or f cannot be recorded, it is called
  // from then on, and the log says why. The results are valid until the next call.
  // An exception of f passes through; `changes` are then as before the call.
  Tensors operator()(const std::string& key, const Tensors& inputs, const Tensors& changes, const Function& f);

  // Whether calls are, or will be, repeated from a recording; and whether they are by now.
  bool records() const { return recorder_ != nullptr; }
  bool repeats() const { return recording_ != nullptr && calls_ > 3; }

 private:
  bool Continues(const std::string& key, const Tensors& inputs) const;
  Tensors Run(const Function& f);
  void Record(const Tensors& changes, const Function& f);
  Tensors Check(const Tensors& before, const Tensors& changes, const Function& f);
  void GiveUp(const std::string& why);

  Recorder* recorder_;
  const std::string what_;
  std::string key_;
  int64_t calls_ = 0;  // with this key and these shapes
  Tensors inputs_;     // what the recorded kernels read
  Tensors outputs_;    // and write
  std::unique_ptr<Recording> recording_;
};

}  // namespace loupe::worker::runtime

// Constants that are made on the CPU and read on a device. They are copied there once: a copy from the CPU's memory in
// every step would wait for the device each time, and no recorded step may have one (recorded_call.h).
#pragma once

#include <torch/types.h>

#include <map>
#include <memory>
#include <mutex>
#include <utility>

namespace loupe::worker::runtime {

// Immutable and thread-safe; copies share what is on devices.
class DeviceTable {
 public:
  DeviceTable() = default;
  explicit DeviceTable(torch::Tensor values) : values_(std::move(values)), there_(std::make_shared<There>()) {}

  // On the CPU.
  const torch::Tensor& values() const { return values_; }
  torch::Tensor On(torch::Device device) const {
    if (device.is_cpu()) return values_;
    const std::lock_guard lock(there_->mutex);
    torch::Tensor& copy = there_->copies[{device.type(), device.index()}];
    if (!copy.defined()) copy = values_.to(device);
    return copy;
  }

 private:
  struct There {
    std::mutex mutex;
    std::map<std::pair<torch::DeviceType, torch::DeviceIndex>, torch::Tensor> copies;
  };

  torch::Tensor values_;
  std::shared_ptr<There> there_;
};

}  // namespace loupe::worker::runtime

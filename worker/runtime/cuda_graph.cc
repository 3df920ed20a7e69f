#include "worker/runtime/cuda_graph.h"

#ifdef LOUPE_WITH_CUDA
#include <ATen/cuda/CUDAEvent.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <exception>
#endif

namespace loupe::worker::runtime {
#ifdef LOUPE_WITH_CUDA
namespace {

class CudaGraph : public Recording {
 public:
  explicit CudaGraph(torch::Device device) : device_(device) {}

  at::cuda::CUDAGraph& graph() { return graph_; }
  void Replay() override {
    const c10::cuda::CUDAGuard guard(device_);
    graph_.replay();
  }

 private:
  const torch::Device device_;
  at::cuda::CUDAGraph graph_;
};

class CudaGraphs : public Recorder {
 public:
  explicit CudaGraphs(torch::Device device)
      : device_(device),
        stream_(c10::cuda::getStreamFromPool(/*isHighPriority=*/false, device.index())),
        pool_(at::cuda::graph_pool_handle()) {}

  // Also before a recording: leaves' gradients are added up on the stream on which the pass was made, and a capture
  // takes what is on its own stream alone.
  void Run(const std::function<void()>& work) override {
    const c10::cuda::CUDAStream outside = c10::cuda::getCurrentCUDAStream(device_.index());
    at::cuda::CUDAEvent begun, done;
    begun.record(outside);
    begun.block(stream_);
    {
      const c10::cuda::CUDAStreamGuard guard(stream_);
      work();
    }
    done.record(stream_);
    done.block(outside);
  }

  std::unique_ptr<Recording> Record(const std::function<void()>& work) override {
    auto recording = std::make_unique<CudaGraph>(device_);
    at::cuda::CUDAGraph& graph = recording->graph();
    {
      const c10::cuda::CUDAStreamGuard guard(stream_);
      c10::cuda::device_synchronize();
      // Of this thread alone: others of the process (the GPU's monitor) may call what a capture forbids.
      graph.capture_begin(pool_, cudaStreamCaptureModeThreadLocal);
      try {
        work();
      } catch (...) {
        const std::exception_ptr error = std::current_exception();
        try {
          graph.capture_end();
        } catch (const std::exception&) {
          // What it says follows from the work's own error.
          static_cast<void>(cudaGetLastError());
        }
        std::rethrow_exception(error);
      }
      graph.capture_end();
    }
    // The unrecorded calls' memory, which the recorded ones do not need.
    c10::cuda::CUDACachingAllocator::emptyCache();
    return recording;
  }

 private:
  const torch::Device device_;
  const c10::cuda::CUDAStream stream_;
  const at::cuda::MempoolId_t pool_;
};

}  // namespace
#endif

std::shared_ptr<Recorder> MakeCudaGraphs([[maybe_unused]] torch::Device device) {
#ifdef LOUPE_WITH_CUDA
  if (device.is_cuda()) return std::make_shared<CudaGraphs>(device);
#endif
  return nullptr;
}

}  // namespace loupe::worker::runtime

// CUDA launchers: no allocation, no synchronisation, the caller's stream; safe to capture in a CUDA graph.
#include <cuda_runtime.h>

#include <atomic>
#include <stdexcept>
#include <string>

#include "launch_plan.h"

namespace triptych::cuda {

namespace {

constexpr int kThreadsPerBlock = 256;
constexpr int kBlocksPerProcessor = 8;
constexpr int kMaxDevices = 64;

template <auto Program, typename Args>
__global__ void __launch_bounds__(kThreadsPerBlock) kernel(const __grid_constant__ Args args) {
  Program(args, device::Thread{blockIdx.x, gridDim.x, static_cast<int>(threadIdx.x), kThreadsPerBlock});
}

void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  throw std::runtime_error(std::string("triptych-kernels: ") + what + ": " + cudaGetErrorString(status));
}

int num_processors(int device) {
  static std::atomic<int> known[kMaxDevices];
  int count = device < kMaxDevices ? known[device].load() : 0;
  if (count == 0) {
    check(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device), "cannot read the device");
    if (device < kMaxDevices) known[device].store(count);
  }
  return count;
}

// This library and torch each carry a CUDA runtime; the device that Python has set must be this one's too.
void check_device(int expected) {
  int current = -1;
  check(cudaGetDevice(&current), "cannot find the current device");
  if (current == expected) return;
  throw std::runtime_error("triptych-kernels: the tensors are on cuda:" + std::to_string(expected) +
                           ", the current device is cuda:" + std::to_string(current));
}

struct Runner {
  Launch launch;

  template <auto Program, typename Args>
  void run(const Args& args, std::int64_t num_warps) const {
    if (num_warps == 0) return;
    check_device(launch.device);
    constexpr std::int64_t warps_per_block = kThreadsPerBlock / device::kWarp;
    const std::int64_t wanted = (num_warps + warps_per_block - 1) / warps_per_block;
    const std::int64_t most = std::int64_t{kBlocksPerProcessor} * num_processors(launch.device);
    const unsigned num_blocks = static_cast<unsigned>(std::min(wanted, most));
    kernel<Program><<<num_blocks, kThreadsPerBlock, 0, reinterpret_cast<cudaStream_t>(launch.stream)>>>(args);
    check(cudaGetLastError(), "launch failed");
  }
};

template <typename Args>
void enqueue(const Args& args, Launch launch) {
  const Runner runner{launch};
  device::start(args, runner);
}

}  // namespace

std::string device_problem() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  return status == cudaSuccess ? "" : cudaGetErrorString(status);
}

void merge(const MergeArgs& args, Launch launch) { enqueue(args, launch); }
void features_grad(const FeaturesGradArgs& args, Launch launch) { enqueue(args, launch); }
void text_grad(const TextGradArgs& args, Launch launch) { enqueue(args, launch); }

}  // namespace triptych::cuda

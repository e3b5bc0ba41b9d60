// The CUDA launches walked by the host, thread after thread: for tests on machines without a GPU.
#include "launch_plan.h"

namespace triptych::emulator {

namespace {

struct Runner {
  Launch launch;

  template <auto Program, typename Args>
  void run(const Args& args, std::int64_t) const {
    for (std::int64_t block = 0; block < launch.num_blocks; ++block) {
      for (int thread = 0; thread < launch.threads_per_block; ++thread) {
        Program(args, device::Thread{block, launch.num_blocks, thread, launch.threads_per_block});
      }
    }
  }
};

template <typename Args>
void walk(const Args& args, Launch launch) {
  const Runner runner{launch};
  device::start(args, runner);
}

}  // namespace

void merge(const MergeArgs& args, Launch launch) { walk(args, launch); }
void features_grad(const FeaturesGradArgs& args, Launch launch) { walk(args, launch); }
void text_grad(const TextGradArgs& args, Launch launch) { walk(args, launch); }

}  // namespace triptych::emulator

// Python bindings: addresses and sizes in, nothing else. Tensors are checked, kept alive and guarded on the Python side.
#include <pybind11/pybind11.h>

#include <cstdint>

#include "cpu_memory.h"
#include "decode.h"
#include "draw.h"
#include "merge.h"
#include "packed.h"
#include "rows.h"

namespace py = pybind11;

namespace triptych {
namespace {

using Address = std::uintptr_t;
using Size = std::int64_t;

template <typename T>
T* at(Address address) {
  return reinterpret_cast<T*>(address);
}

const std::int32_t* index_at(Address address) { return at<const std::int32_t>(address); }

// The ops of one backend.
template <typename Launch>
struct Ops {
  void (*merge)(const MergeArgs&, Launch);
  void (*features_grad)(const FeaturesGradArgs&, Launch);
  void (*text_grad)(const TextGradArgs&, Launch);
};

// Binds them; `Launch` is built from the trailing arguments.
template <typename Launch, typename... LaunchArgs>
void bind_ops(py::module_& m, const Ops<Launch>& ops) {
  using Unlock = py::call_guard<py::gil_scoped_release>;
  m.def("merge",
        [ops](Address out, Address embeds, Address features, Size features_stride, Address index, Size R,
              Size row_bytes, LaunchArgs... launch) {
          ops.merge({at<void>(out), at<void>(embeds), at<void>(features), features_stride, index_at(index), R,
                     row_bytes},
                    Launch{launch...});
        },
        Unlock());
  m.def("features_grad",
        [ops](Address out, Address grad, Address index, Size R, Size N, Size D, int dtype, LaunchArgs... launch) {
          ops.features_grad({at<void>(out), at<void>(grad), index_at(index), R, N, D, static_cast<DType>(dtype)},
                            Launch{launch...});
        },
        Unlock());
  m.def("text_grad",
        [ops](Address out, Address grad, Address index, Size R, Size row_bytes, LaunchArgs... launch) {
          ops.text_grad({at<void>(out), at<void>(grad), index_at(index), R, row_bytes}, Launch{launch...});
        },
        Unlock());
}

}  // namespace

PYBIND11_MODULE(_native, m) {
  m.doc() = "Kernels on raw addresses; use triptych_kernels, which checks its tensors, instead.";
  m.def("place_runs", [](Address index, Size R, Address runs_K3, Size K) {
    return place_runs(at<std::int32_t>(index), R, at<const std::int64_t>(runs_K3), K);
  });
  m.def("group_slots", [](Address index, Size R, Size N) { return group_slots(at<std::int32_t>(index), R, N); });

  py::module_ cpu_ops = m.def_submodule("cpu", "Last argument: number of threads.");
  bind_ops<cpu::Launch, int>(cpu_ops, {cpu::merge, cpu::features_grad, cpu::text_grad});
  m.def("ask_for_huge_pages", [](Address to, Size bytes) { cpu::ask_for_huge_pages(at<void>(to), bytes); });
  cpu_ops.attr("packed_width") = cpu::kPackedWidth;
  cpu_ops.def(
      "packed_product",
      [](Address out, Address x, Address w, Address bias, Size R, Size I, Size O, int num_threads) {
        cpu::packed_product({at<float>(out), at<const float>(x), at<const float>(w), at<const float>(bias), R, I, O},
                            num_threads);
      },
      py::call_guard<py::gil_scoped_release>());

  cpu_ops.def("row_norm", [](Address out, Address x, Address weight, Size R, Size D, float epsilon) {
    cpu::row_norm({at<float>(out), at<const float>(x), at<const float>(weight), R, D, epsilon});
  });

  cpu_ops.attr("key_block") = cpu::kKeyBlock;
  cpu_ops.attr("value_unit") = cpu::kValueUnit;
  cpu_ops.def(
      "decode_attention",
      [](Address out, Address query, Address new_keys, Address new_values, Address keys, Address values, Address slots,
         Address prompts, Size R, Size H, Size K, Size D, Size P, Size N, Size C, float scale, int dtype,
         int num_threads) {
        cpu::decode_attention({at<void>(out), at<const void>(query), at<const void>(new_keys),
                               at<const void>(new_values), at<void>(keys), at<void>(values),
                               at<const std::int64_t>(slots), at<const cpu::DecodePrompt>(prompts), R, H, K, D, P, N,
                               C, scale, static_cast<DType>(dtype)},
                              num_threads);
      },
      py::call_guard<py::gil_scoped_release>());

  cpu_ops.def(
      "draw",
      [](Address ids, Address p, Address rows, Address state, Size R, Size B, Size V) {
        return cpu::draw({at<std::int64_t>(ids), at<const float>(p), at<const std::int64_t>(rows),
                          at<cpu::GeneratorState>(state), R, B, V});
      },
      py::call_guard<py::gil_scoped_release>());

  py::module_ emulated = m.def_submodule("emulator", "Last arguments: number of blocks, threads per block.");
  bind_ops<emulator::Launch, std::int64_t, int>(emulated,
                                                {emulator::merge, emulator::features_grad, emulator::text_grad});

#ifdef TRIPTYCH_WITHOUT_CUDA
  m.attr("no_cuda_reason") = TRIPTYCH_WITHOUT_CUDA;
#else
  py::module_ cuda_ops = m.def_submodule("cuda", "Last arguments: device number, stream address.");
  bind_ops<cuda::Launch, int, std::uintptr_t>(cuda_ops, {cuda::merge, cuda::features_grad, cuda::text_grad});
  cuda_ops.def("device_problem", cuda::device_problem);
#endif
}

}  // namespace triptych

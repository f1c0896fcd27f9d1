// Runs a kernel of the emulated card: the CPU kernel of the same name, on the host's view of the card's memory.
#pragma once

#include <cstring>
#include <memory>
#include <tuple>
#include <vector>

#include "paddle/phi/config.h"
#undef PADDLE_WITH_DNNL  // the wheel's oneDNN headers are incomplete

#include "limits.h"
#include "memory.h"
#include "paddle/phi/backends/all_context.h"
#include "paddle/phi/backends/context_pool.h"
#include "paddle/phi/core/dense_tensor.h"
#include "paddle/phi/core/kernel_registry.h"

namespace emulator {

using phi::DenseTensor;

// float16 is computed in float32 where the CPU has no kernel for it.
inline void convert(const DenseTensor& from, DenseTensor* to, phi::DataType type, const phi::CPUContext& host) {
  to->Resize(from.dims());
  host.Alloc(to, type);
  const int64_t count = from.numel();
  if (type == phi::DataType::FLOAT32) {
    const auto* source = from.data<phi::dtype::float16>();
    std::transform(source, source + count, to->data<float>(), [](auto value) { return static_cast<float>(value); });
  } else {
    const auto* source = from.data<float>();
    std::transform(source, source + count, to->data<phi::dtype::float16>(),
                   [](float value) { return static_cast<phi::dtype::float16>(value); });
  }
}

struct Call {
  const phi::CustomContext& card;
  const phi::CPUContext& host;
  bool widen;  // float16 to float32
  std::vector<std::shared_ptr<phi::Allocation>>& views;

  // Tensors on the same memory get the same view: kernels ask whether they work in place.
  std::shared_ptr<phi::Allocation> view(const void* data, std::size_t bytes) const {
    void* place = host_view(data);
    for (const auto& each : views) {
      if (each->ptr() == place && each->size() >= bytes) return each;
    }
    views.push_back(std::make_shared<phi::Allocation>(place, bytes, phi::CPUPlace()));
    return views.back();
  }
};

inline void describe(DenseTensor* tensor, const DenseTensor& like) {
  if (like.meta().valid()) {
    tensor->set_meta(like.meta());
  } else {
    tensor->Resize(like.dims());
  }
}

// A tensor of the CPU on the same memory, which the card's tensor keeps alive.
inline DenseTensor on_host(const DenseTensor& tensor, const Call& call) {
  DenseTensor mirror;
  if (!tensor.initialized()) {
    describe(&mirror, tensor);
    return mirror;
  }
  if (tensor.place().GetType() == phi::AllocationType::CPU) {
    mirror = tensor;
  } else {
    phi::DenseTensorMeta meta = tensor.meta();
    meta.offset = 0;  // the view begins at the data, not at the allocation that holds it
    const std::size_t bytes = tensor.numel() * phi::SizeOf(tensor.dtype());
    mirror = DenseTensor(call.view(tensor.data(), bytes), meta);
  }
  if (!call.widen || tensor.dtype() != phi::DataType::FLOAT16) return mirror;
  DenseTensor wide;
  convert(mirror, &wide, phi::DataType::FLOAT32, call.host);
  return wide;
}

// How each kind of argument goes to the host kernel, and what comes back afterwards.
template <typename T>
struct Argument {  // attributes
  T value;
  Argument(const Call&, T given) : value(given) {}
  T host() { return value; }
  void finish() {}
};

template <>
struct Argument<const DenseTensor&> {
  DenseTensor mirror;
  Argument(const Call& call, const DenseTensor& given) : mirror(on_host(given, call)) {}
  const DenseTensor& host() { return mirror; }
  void finish() {}
};

template <>
struct Argument<const paddle::optional<DenseTensor>&> {
  paddle::optional<DenseTensor> mirror;
  Argument(const Call& call, const paddle::optional<DenseTensor>& given) {
    if (given) mirror = on_host(*given, call);
  }
  const paddle::optional<DenseTensor>& host() { return mirror; }
  void finish() {}
};

template <>
struct Argument<const std::vector<const DenseTensor*>&> {
  std::vector<DenseTensor> mirrors;
  std::vector<const DenseTensor*> pointers;
  Argument(const Call& call, const std::vector<const DenseTensor*>& given) {
    mirrors.reserve(given.size());  // the pointers stay good
    for (auto* each : given) {
      mirrors.push_back(each ? on_host(*each, call) : DenseTensor());
      pointers.push_back(each ? &mirrors.back() : nullptr);
    }
  }
  const std::vector<const DenseTensor*>& host() { return pointers; }
  void finish() {}
};

template <>
struct Argument<const std::vector<const phi::TensorBase*>&> {  // of add_n, which also takes other kinds of tensors
  std::vector<DenseTensor> mirrors;
  std::vector<const phi::TensorBase*> pointers;
  Argument(const Call& call, const std::vector<const phi::TensorBase*>& given) {
    mirrors.reserve(given.size());
    for (auto* each : given) {
      auto* dense = dynamic_cast<const DenseTensor*>(each);
      if (dense) mirrors.push_back(on_host(*dense, call));
      pointers.push_back(dense ? &mirrors.back() : each);
    }
  }
  const std::vector<const phi::TensorBase*>& host() { return pointers; }
  void finish() {}
};

// What the host computed is put on the card; kernels that work in place find what is there.
struct Output {
  Call call;
  DenseTensor* target;
  DenseTensor mirror;

  Output(const Call& given_call, DenseTensor* given) : call(given_call), target(given) {
    if (target) mirror = on_host(*target, call);
  }

  DenseTensor* host() { return target ? &mirror : nullptr; }

  void finish() {
    if (!target || !mirror.initialized()) return;
    if (call.widen && mirror.dtype() == phi::DataType::FLOAT32 && target->dtype() == phi::DataType::FLOAT16) {
      DenseTensor narrow;
      convert(mirror, &narrow, phi::DataType::FLOAT16, call.host);
      mirror = narrow;
    }
    target->Resize(mirror.dims());
    void* place = host_view(call.card.Alloc(target, mirror.dtype()));
    const std::size_t bytes = mirror.numel() * phi::SizeOf(mirror.dtype());
    if (bytes && place != mirror.data()) std::memcpy(place, mirror.data(), bytes);
  }
};

template <>
struct Argument<DenseTensor*> : Output {
  using Output::Output;
};

template <>
struct Argument<std::vector<DenseTensor*>> {
  std::vector<Output> outputs;
  Argument(const Call& call, const std::vector<DenseTensor*>& given) {
    for (auto* each : given) outputs.emplace_back(call, each);
  }
  std::vector<DenseTensor*> host() {
    std::vector<DenseTensor*> pointers;
    for (auto& each : outputs) pointers.push_back(each.host());
    return pointers;
  }
  void finish() {
    for (auto& each : outputs) each.finish();
  }
};

template <typename Fn>
struct Signature;

template <typename... Args>
struct Signature<void (*)(const phi::CustomContext&, Args...)> {
  using HostFn = void (*)(const phi::CPUContext&, Args...);

  template <const char* Name, phi::DataType Type>
  static void run(const phi::CustomContext& card, Args... args) {
    Limits<Name>::check(std::forward_as_tuple(args...));
    const auto& factory = phi::KernelFactory::Instance();
    const phi::KernelKey exact{phi::Backend::CPU, phi::DataLayout::ALL_LAYOUT, Type};
    const bool widen = Type == phi::DataType::FLOAT16 && !factory.HasKernel(Name, exact);
    const phi::KernelKey key{phi::Backend::CPU, phi::DataLayout::ALL_LAYOUT, widen ? phi::DataType::FLOAT32 : Type};
    static const auto function =
        phi::KernelFactory::Instance().SelectKernelOrThrowError(Name, key).kernel.GetVariadicKernelFn<HostFn>();
    const auto& host = *static_cast<phi::CPUContext*>(phi::DeviceContextPool::Instance().Get(phi::CPUPlace()));
    std::vector<std::shared_ptr<phi::Allocation>> views;
    const Call call{card, host, widen, views};
    std::tuple<Argument<Args>...> arguments{Argument<Args>(call, args)...};
    std::apply([&](auto&... each) { function(host, each.host()...); }, arguments);
    std::apply([&](auto&... each) { (each.finish(), ...); }, arguments);
  }
};

}  // namespace emulator

// One part of the kernels that the card has natively. The build compiles this file once for each part of the table.

#include "host_kernel.h"
#include "kernel_headers.inc"
#include "settings.h"

namespace emulator {

template <typename Fn, const char* Name, phi::DataType Type>
void offer() {
  constexpr Fn fn = &Signature<Fn>::template run<Name, Type>;
  using Kernel = phi::KernelImpl<Fn, fn>;
  phi::KernelRegistrar(phi::RegType::OUTER, Name, "sdaa", phi::DataLayout::ALL_LAYOUT, Type,
                       phi::KernelArgsParseFunctor<Fn>::Parse, [](const phi::KernelKey&, phi::Kernel*) {},
                       Kernel::Compute, reinterpret_cast<void*>(&Kernel::VariadicCompute));
}

// TYPED: the function depends on the type; UNTYPED: it does not.
#define TYPED(NAME, FUNCTION, CPP, TYPE) \
  offer<decltype(&phi::FUNCTION<CPP, phi::CustomContext>), name_##NAME, phi::DataType::TYPE>();
#define UNTYPED(NAME, FUNCTION, CPP, TYPE) \
  offer<decltype(&phi::FUNCTION<phi::CustomContext>), name_##NAME, phi::DataType::TYPE>();

#define JOINED(A, B) A##B
#define NAMED(A, B) JOINED(A, B)

void NAMED(register_part_, PART)() {
#include TABLE
}

}  // namespace emulator

#pragma once

namespace emulator {

void register_kernels();  // those of kernel_table_<n>.inc, which the build writes

}  // namespace emulator

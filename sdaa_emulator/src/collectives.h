#pragma once
#include "paddle/phi/backends/device_ext.h"
namespace emulator {
void offer_collectives(C_DeviceInterface& runtime);
}

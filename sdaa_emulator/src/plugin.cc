// Device type `sdaa` of Paddle's plug-in interface on a CPU: cards, memory, streams and events. Everything is done at once,
// so a stream is always ready.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <string>

#include "collectives.h"
#include "kernels.h"
#include "memory.h"
#include "paddle/phi/backends/device_ext.h"
#include "settings.h"

struct C_Stream_st {
  int card;
};

struct C_Event_st {
  std::chrono::steady_clock::time_point recorded;
};

namespace emulator {
namespace {

long number(const char* name, long otherwise) {
  const char* text = std::getenv(name);
  if (!text || !*text) return otherwise;
  char* end = nullptr;
  const long value = std::strtol(text, &end, 10);
  if (*end || value < 1) {
    std::fprintf(stderr, "sdaa emulator: %s=%s is no positive number\n", name, text);
    std::exit(1);
  }
  return value;
}

Settings from_environment() {
  Settings found{};
  found.cards = static_cast<int>(std::min<long>(number("SDAA_EMULATOR_CARDS", 4), kMostCards));
  found.memory = static_cast<std::size_t>(number("SDAA_EMULATOR_MEMORY", 16384)) << 20;
  const char* strict = std::getenv("SDAA_EMULATOR_STRICT");
  found.strict = strict && std::strcmp(strict, "1") == 0;
  if (const char* listed = std::getenv("SDAA_VISIBLE_DEVICES"); listed && std::strcmp(listed, "all") != 0) {
    std::stringstream cards(listed);
    for (std::string card; std::getline(cards, card, ',');) {
      char* end = nullptr;
      const long label = std::strtol(card.c_str(), &end, 10);
      if (end != card.c_str() && label >= 0 && label < found.cards) found.visible.push_back(static_cast<int>(label));
    }
  } else {
    for (int card = 0; card < found.cards; ++card) found.visible.push_back(card);
  }
  return found;
}

thread_local int current_card = 0;

C_Status ok() { return C_SUCCESS; }
C_Status ok_device(const C_Device) { return C_SUCCESS; }
C_Status ok_stream(const C_Device, C_Stream) { return C_SUCCESS; }
C_Status ok_event(const C_Device, C_Event) { return C_SUCCESS; }

C_Status set_device(const C_Device device) {
  current_card = device->id;
  return C_SUCCESS;
}

C_Status get_device(const C_Device device) {
  device->id = current_card;
  return C_SUCCESS;
}

C_Status get_device_count(std::size_t* count) {
  *count = settings().visible.size();
  return C_SUCCESS;
}

C_Status get_device_list(std::size_t* devices) {
  for (std::size_t index = 0; index < settings().visible.size(); ++index) devices[index] = index;
  return C_SUCCESS;
}

C_Status create_stream(const C_Device device, C_Stream* stream) {
  *stream = new C_Stream_st{device->id};
  return C_SUCCESS;
}

C_Status destroy_stream(const C_Device, C_Stream stream) {
  delete stream;
  return C_SUCCESS;
}

C_Status add_callback(const C_Device device, C_Stream stream, C_Callback callback, void* data) {
  C_Status status = C_SUCCESS;
  callback(device, stream, data, &status);
  return status;
}

C_Status create_event(const C_Device, C_Event* event) {
  *event = new C_Event_st{};
  return C_SUCCESS;
}

C_Status record_event(const C_Device, C_Stream, C_Event event) {
  event->recorded = std::chrono::steady_clock::now();
  return C_SUCCESS;
}

C_Status destroy_event(const C_Device, C_Event event) {
  delete event;
  return C_SUCCESS;
}

C_Status wait_event(const C_Device, C_Stream, C_Event) { return C_SUCCESS; }

C_Status device_allocate(const C_Device device, void** address, std::size_t size) {
  return allocate(device->id, size, address) ? C_SUCCESS : C_FAILED;
}

C_Status device_release(const C_Device device, void* address, std::size_t size) {
  release(device->id, address, size);
  return C_SUCCESS;
}

C_Status host_allocate(const C_Device, void** address, std::size_t size) {
  *address = std::aligned_alloc(64, (size + 63) / 64 * 64);
  return *address ? C_SUCCESS : C_FAILED;
}

C_Status host_release(const C_Device, void* address, std::size_t) {
  std::free(address);
  return C_SUCCESS;
}

C_Status device_set(const C_Device, void* address, unsigned char value, std::size_t size) {
  std::memset(host_view(address), value, size);
  return C_SUCCESS;
}

C_Status copy(const C_Device, void* to, const void* from, std::size_t size) {
  std::memmove(host_view(to), host_view(from), size);
  return C_SUCCESS;
}

C_Status copy_on_stream(const C_Device device, C_Stream, void* to, const void* from, std::size_t size) {
  return copy(device, to, from, size);
}

C_Status copy_between(const C_Device, const C_Device device, void* to, const void* from, std::size_t size) {
  return copy(device, to, from, size);
}

C_Status copy_between_on_stream(const C_Device, const C_Device device, C_Stream, void* to, const void* from,
                                std::size_t size) {
  return copy(device, to, from, size);
}

C_Status memory_stats(const C_Device device, std::size_t* total, std::size_t* unused) {
  memory_of(device->id, total, unused);
  return C_SUCCESS;
}

C_Status least_chunk(const C_Device, std::size_t* size) {
  *size = 512;
  return C_SUCCESS;
}

C_Status float16_supported(const C_Device, bool* supported) {
  *supported = true;
  return C_SUCCESS;
}

C_Status bfloat16_supported(const C_Device, bool* supported) {
  *supported = false;
  return C_SUCCESS;
}

// Paddle 3.0 does not ask yet.
template <typename Runtime>
auto tell_precisions(Runtime& runtime) -> decltype(runtime.is_float16_supported, void()) {
  runtime.is_float16_supported = float16_supported;
  runtime.is_bfloat16_supported = bfloat16_supported;
}
void tell_precisions(...) {}

}  // namespace

const Settings& settings() {
  static const Settings found = from_environment();
  return found;
}

}  // namespace emulator

extern "C" void InitPlugin(CustomRuntimeParams* params) {
  using namespace emulator;
  PADDLE_CUSTOM_RUNTIME_CHECK_VERSION(params);
  static char type[] = "sdaa", sub_type[] = "emulator";
  params->device_type = type;
  params->sub_device_type = sub_type;

  C_DeviceInterface& runtime = *params->interface;
  std::memset(&runtime, 0, sizeof runtime);
  runtime.size = sizeof runtime;
  runtime.initialize = ok;
  runtime.finalize = ok;
  runtime.init_device = ok_device;
  runtime.deinit_device = ok_device;
  runtime.set_device = set_device;
  runtime.get_device = get_device;
  runtime.create_stream = create_stream;
  runtime.destroy_stream = destroy_stream;
  runtime.query_stream = ok_stream;
  runtime.stream_add_callback = add_callback;
  runtime.create_event = create_event;
  runtime.record_event = record_event;
  runtime.destroy_event = destroy_event;
  runtime.query_event = ok_event;
  runtime.synchronize_device = ok_device;
  runtime.synchronize_stream = ok_stream;
  runtime.synchronize_event = ok_event;
  runtime.stream_wait_event = wait_event;
  runtime.device_memory_allocate = device_allocate;
  runtime.device_memory_deallocate = device_release;
  runtime.device_memory_set = device_set;
  runtime.host_memory_allocate = host_allocate;
  runtime.host_memory_deallocate = host_release;
  runtime.memory_copy_h2d = copy;
  runtime.memory_copy_d2h = copy;
  runtime.memory_copy_d2d = copy;
  runtime.memory_copy_p2p = copy_between;
  runtime.async_memory_copy_h2d = copy_on_stream;
  runtime.async_memory_copy_d2h = copy_on_stream;
  runtime.async_memory_copy_d2d = copy_on_stream;
  runtime.async_memory_copy_p2p = copy_between_on_stream;
  runtime.get_device_count = get_device_count;
  runtime.get_device_list = get_device_list;
  runtime.device_memory_stats = memory_stats;
  runtime.device_min_chunk_size = least_chunk;
  tell_precisions(runtime);
  offer_collectives(runtime);
  register_kernels();
}

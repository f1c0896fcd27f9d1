// Collective communication between the processes of one machine, through a shared segment of memory.
//
// Every rank owns a slot for collectives and, for each other rank, a mailbox for messages. Data goes through in pieces
// that fit. A rank that has died is noticed while waiting for it, and named.

#include "collectives.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

#include "memory.h"
#include "paddle/phi/common/float16.h"

namespace emulator {
namespace {

using phi::dtype::float16;

constexpr std::size_t kMostRanks = 64, kIdSize = 64;
constexpr std::size_t kSlot = 1 << 20, kMailbox = 1 << 16;

struct Lost {  // thrown where a rank is gone
  std::size_t rank;
};

struct Header {
  std::atomic<std::uint32_t> arrived, turn;  // of the barrier
  std::atomic<int> process[kMostRanks];
};

struct Mailbox {
  std::atomic<std::uint32_t> full;
  std::uint32_t size;
  char data[kMailbox];
};

// Waits until `ready`; yields first and sleeps then, and looks every 50 ms whether everybody is still alive.
void wait_for(const std::function<bool()>& ready, const std::function<void()>& check) {
  auto checked = std::chrono::steady_clock::now();
  for (int round = 0; !ready(); ++round) {
    if (round < 200) {
      std::this_thread::yield();
      continue;
    }
    std::this_thread::sleep_for(std::chrono::microseconds(100));
    if (const auto now = std::chrono::steady_clock::now(); now - checked > std::chrono::milliseconds(50)) {
      check();
      checked = now;
    }
  }
}

bool alive(int process) {
  char path[64], text[512] = {};
  std::snprintf(path, sizeof path, "/proc/%d/stat", process);
  std::FILE* file = std::fopen(path, "r");
  if (!file) return false;
  const std::size_t length = std::fread(text, 1, sizeof text - 1, file);
  std::fclose(file);
  const char* end = length ? std::strrchr(text, ')') : nullptr;  // the state stands behind the name in parentheses
  return end && end[1] && end[2] != 'Z' && end[2] != 'X';
}

}  // namespace
}  // namespace emulator

struct C_CCLComm_st {
  std::size_t rank, ranks, bytes;
  char name[emulator::kIdSize];
  char* segment;

  emulator::Header& header() const { return *reinterpret_cast<emulator::Header*>(segment); }
  char* slot(std::size_t of) const { return segment + sizeof(emulator::Header) + of * emulator::kSlot; }
  emulator::Mailbox& mailbox(std::size_t from, std::size_t to) const {
    return reinterpret_cast<emulator::Mailbox*>(slot(ranks))[from * ranks + to];
  }

  void check_everybody() const {
    for (std::size_t other = 0; other < ranks; ++other) {
      const int process = header().process[other].load();
      if (process != 0 && !emulator::alive(process)) throw emulator::Lost{other};
    }
  }

  void barrier() const {
    emulator::Header& all = header();
    const std::uint32_t turn = all.turn.load();
    if (all.arrived.fetch_add(1) + 1 == ranks) {
      all.arrived.store(0);
      all.turn.store(turn + 1);
    } else {
      emulator::wait_for([&] { return all.turn.load() != turn; }, [&] { check_everybody(); });
    }
  }
};

namespace emulator {
namespace {

std::size_t size_of(C_DataType type) {
  switch (type) {
    case INT8: case UINT8: return 1;
    case INT16: case FLOAT16: return 2;
    case INT32: case FLOAT32: return 4;
    case INT64: case FLOAT64: return 8;
    default: return 0;  // bool, bfloat16, unsigned and complex: XCCL of the card does not have them either
  }
}

template <typename T>
void reduce_into(T* result, const T* other, std::size_t count, C_CCLReduceOp op) {
  using Wide = std::conditional_t<std::is_same_v<T, float16>, float, T>;
  for (std::size_t i = 0; i < count; ++i) {
    const Wide a = static_cast<Wide>(result[i]), b = static_cast<Wide>(other[i]);
    switch (op) {
      case SUM: result[i] = static_cast<T>(a + b); break;
      case MAX: result[i] = static_cast<T>(a > b ? a : b); break;
      case MIN: result[i] = static_cast<T>(a < b ? a : b); break;
      default: result[i] = static_cast<T>(a * b); break;
    }
  }
}

void reduce_into(void* result, const void* other, std::size_t count, C_DataType type, C_CCLReduceOp op) {
  const auto with = [&](auto zero) {
    using T = decltype(zero);
    reduce_into(static_cast<T*>(result), static_cast<const T*>(other), count, op);
  };
  switch (type) {
    case INT8: return with(std::int8_t{});
    case UINT8: return with(std::uint8_t{});
    case INT16: return with(std::int16_t{});
    case INT32: return with(std::int32_t{});
    case INT64: return with(std::int64_t{});
    case FLOAT16: return with(float16{});
    case FLOAT32: return with(float{});
    default: return with(double{});
  }
}

template <typename Work>
C_Status guarded(const char* what, const C_CCLComm comm, Work&& work) {
  try {
    work();
    return C_SUCCESS;
  } catch (const Lost& lost) {
    std::fprintf(stderr, "sdaa emulator: rank %zu died: %s of rank %zu is given up\n", lost.rank, what, comm->rank);
    return C_ERROR;
  }
}

C_Status refused(const char* what, C_DataType type) {
  std::fprintf(stderr, "sdaa emulator: %s refuses data type %d or this operation, as the card does\n", what, type);
  return C_ERROR;
}

bool supported(C_DataType type, C_CCLReduceOp op = SUM) { return size_of(type) != 0 && op != AVG; }

// --------------------------------------------------------------------------------------------------- communicators

C_Status id_size(std::size_t* size) {
  *size = kIdSize;
  return C_SUCCESS;
}

C_Status unique_id(C_CCLRootId* id) {
  std::random_device source;
  char name[kIdSize] = {};
  std::snprintf(name, sizeof name, "/sdaa-emulator-%d-%08x%08x", getpid(), source(), source());
  std::memcpy(id->data, name, std::min(id->sz, kIdSize));
  return C_SUCCESS;
}

C_Status join(std::size_t ranks, C_CCLRootId* id, std::size_t rank, C_CCLComm* result) {
  if (ranks > kMostRanks) return C_ERROR;
  auto* comm = new C_CCLComm_st{rank, ranks, 0, {}, nullptr};
  std::memcpy(comm->name, id->data, kIdSize);
  comm->bytes = sizeof(Header) + ranks * kSlot + ranks * ranks * sizeof(Mailbox);
  const int file = shm_open(comm->name, O_RDWR | O_CREAT, 0600);
  if (file < 0 || ftruncate(file, static_cast<off_t>(comm->bytes)) != 0) {
    std::perror("sdaa emulator: shared memory of a communicator");
    return C_ERROR;
  }
  void* segment = mmap(nullptr, comm->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (segment == MAP_FAILED) return C_ERROR;
  comm->segment = static_cast<char*>(segment);  // zeros at first, for every rank the same
  comm->header().process[rank].store(getpid());
  *result = comm;
  return guarded("joining", comm, [&] {
    comm->barrier();
    if (rank == 0) shm_unlink(comm->name);  // everybody has it open; nothing stays behind however this ends
  });
}

C_Status leave(C_CCLComm comm) {
  munmap(comm->segment, comm->bytes);
  delete comm;
  return C_SUCCESS;
}

C_Status name_of(C_CCLComm comm, char* name) {
  std::memcpy(name, comm->name, kIdSize);
  return C_SUCCESS;
}

// ----------------------------------------------------------------------------------------------------- collectives

// Each rank puts a piece of `size` bytes at `offset` of its data into its slot; `take` sees all slots between two barriers.
template <typename Take>
void exchange(const C_CCLComm comm, const void* data, std::size_t bytes, Take&& take) {
  const char* mine = data ? static_cast<const char*>(host_view(data)) : nullptr;
  for (std::size_t offset = 0; offset < bytes; offset += kSlot) {
    const std::size_t size = std::min(kSlot, bytes - offset);
    if (mine) std::memcpy(comm->slot(comm->rank), mine + offset, size);
    comm->barrier();
    take(offset, size);
    comm->barrier();
  }
}

void reduce_slots(const C_CCLComm comm, void* into, std::size_t size, C_DataType type, C_CCLReduceOp op) {
  std::memcpy(into, comm->slot(0), size);  // always in the order of the ranks: the same bits everywhere
  for (std::size_t other = 1; other < comm->ranks; ++other) {
    reduce_into(into, comm->slot(other), size / size_of(type), type, op);
  }
}

C_Status all_reduce(void* send, void* receive, std::size_t count, C_DataType type, C_CCLReduceOp op, C_CCLComm comm,
                    C_Stream) {
  if (!supported(type, op)) return refused("all_reduce", type);
  return guarded("all_reduce", comm, [&] {
    exchange(comm, send, count * size_of(type), [&](std::size_t offset, std::size_t size) {
      reduce_slots(comm, static_cast<char*>(host_view(receive)) + offset, size, type, op);
    });
  });
}

C_Status reduce(void* send, void* receive, std::size_t count, C_DataType type, C_CCLReduceOp op, std::size_t root,
                C_CCLComm comm, C_Stream) {
  if (!supported(type, op)) return refused("reduce", type);
  return guarded("reduce", comm, [&] {
    exchange(comm, send, count * size_of(type), [&](std::size_t offset, std::size_t size) {
      if (comm->rank == root) reduce_slots(comm, static_cast<char*>(host_view(receive)) + offset, size, type, op);
    });
  });
}

C_Status broadcast(void* data, std::size_t count, C_DataType type, std::size_t root, C_CCLComm comm, C_Stream) {
  if (!supported(type)) return refused("broadcast", type);
  return guarded("broadcast", comm, [&] {
    exchange(comm, comm->rank == root ? data : nullptr, count * size_of(type), [&](std::size_t offset, std::size_t size) {
      if (comm->rank != root) std::memcpy(static_cast<char*>(host_view(data)) + offset, comm->slot(root), size);
    });
  });
}

C_Status all_gather(void* send, void* receive, std::size_t count, C_DataType type, C_CCLComm comm, C_Stream) {
  if (!supported(type)) return refused("all_gather", type);
  const std::size_t bytes = count * size_of(type);
  return guarded("all_gather", comm, [&] {
    exchange(comm, send, bytes, [&](std::size_t offset, std::size_t size) {
      for (std::size_t other = 0; other < comm->ranks; ++other) {
        std::memcpy(static_cast<char*>(host_view(receive)) + other * bytes + offset, comm->slot(other), size);
      }
    });
  });
}

C_Status reduce_scatter(void* send, void* receive, std::size_t count, C_DataType type, C_CCLReduceOp op, C_CCLComm comm,
                        C_Stream) {
  if (!supported(type, op)) return refused("reduce_scatter", type);
  const std::size_t bytes = count * size_of(type);
  return guarded("reduce_scatter", comm, [&] {
    for (std::size_t part = 0; part < comm->ranks; ++part) {
      exchange(comm, static_cast<char*>(send) + part * bytes, bytes, [&](std::size_t offset, std::size_t size) {
        if (part == comm->rank) reduce_slots(comm, static_cast<char*>(host_view(receive)) + offset, size, type, op);
      });
    }
  });
}

// ------------------------------------------------------------------------------------------------ point to point

struct Message {
  bool sending;
  std::size_t other;
  char* data;
  std::size_t bytes, done;
  C_CCLComm comm;

  Mailbox& mailbox() const {
    return sending ? comm->mailbox(comm->rank, other) : comm->mailbox(other, comm->rank);
  }

  bool progress() {  // moves one piece if it can
    Mailbox& box = mailbox();
    if ((box.full.load(std::memory_order_acquire) != 0) == sending) return false;
    const std::size_t size = sending ? std::min(kMailbox, bytes - done) : box.size;
    if (sending) {
      std::memcpy(box.data, data + done, size);
      box.size = static_cast<std::uint32_t>(size);
    } else {
      std::memcpy(data + done, box.data, std::min(size, bytes - done));
    }
    done += size;
    box.full.store(sending, std::memory_order_release);
    return true;
  }
};

thread_local bool grouping = false;
thread_local std::vector<Message> messages;

C_Status deliver() {
  std::vector<Message> open;
  open.swap(messages);
  if (open.empty()) return C_SUCCESS;
  return guarded("a message", open.front().comm, [&] {
    const auto all_done = [&] { return std::all_of(open.begin(), open.end(), [](auto& m) { return m.done >= m.bytes; }); };
    const auto step = [&] {
      std::vector<Mailbox*> busy;  // messages between the same two ranks keep their order
      for (Message& each : open) {
        if (each.done >= each.bytes) continue;
        Mailbox* box = &each.mailbox();
        if (std::find(busy.begin(), busy.end(), box) != busy.end()) continue;
        while (each.done < each.bytes && each.progress()) {
        }
        if (each.done < each.bytes) busy.push_back(box);
      }
      return all_done();
    };
    wait_for(step, [&] {
      for (const Message& each : open) each.comm->check_everybody();
    });
  });
}

C_Status post(bool sending, void* data, std::size_t count, C_DataType type, std::size_t other, C_CCLComm comm) {
  if (!supported(type)) return refused("a message", type);
  messages.push_back({sending, other, static_cast<char*>(host_view(data)), count * size_of(type), 0, comm});
  return grouping ? C_SUCCESS : deliver();
}

C_Status send(void* data, std::size_t count, C_DataType type, std::size_t to, C_CCLComm comm, C_Stream) {
  return post(true, data, count, type, to, comm);
}

C_Status receive(void* data, std::size_t count, C_DataType type, std::size_t from, C_CCLComm comm, C_Stream) {
  return post(false, data, count, type, from, comm);
}

C_Status group_start() {
  grouping = true;
  return C_SUCCESS;
}

C_Status group_end() {
  grouping = false;
  return deliver();
}

C_Status all_to_all(const void** out, const std::size_t* out_counts, const C_DataType* out_types, void** in,
                    const std::size_t* in_counts, const C_DataType* in_types, std::size_t rank, std::size_t ranks,
                    C_CCLComm comm, C_Stream) {
  const bool inside = grouping;
  grouping = true;
  for (std::size_t other = 0; other < ranks; ++other) {
    if (other == rank) {
      std::memcpy(host_view(in[other]), host_view(out[other]), out_counts[other] * size_of(out_types[other]));
      continue;
    }
    if (post(true, const_cast<void*>(out[other]), out_counts[other], out_types[other], other, comm) != C_SUCCESS ||
        post(false, in[other], in_counts[other], in_types[other], other, comm) != C_SUCCESS) {
      messages.clear();
      grouping = inside;
      return C_ERROR;
    }
  }
  grouping = inside;
  return grouping ? C_SUCCESS : deliver();
}

}  // namespace

void offer_collectives(C_DeviceInterface& runtime) {
  runtime.xccl_get_unique_id_size = id_size;
  runtime.xccl_get_unique_id = unique_id;
  runtime.xccl_comm_init_rank = join;
  runtime.xccl_destroy_comm = leave;
  runtime.xccl_get_comm_name = name_of;
  runtime.xccl_all_reduce = all_reduce;
  runtime.xccl_reduce = reduce;
  runtime.xccl_broadcast = broadcast;
  runtime.xccl_all_gather = all_gather;
  runtime.xccl_reduce_scatter = reduce_scatter;
  runtime.xccl_send = send;
  runtime.xccl_recv = receive;
  runtime.xccl_group_start = group_start;
  runtime.xccl_group_end = group_end;
  runtime.xccl_all_to_all = all_to_all;
}

}  // namespace emulator

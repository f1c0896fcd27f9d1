#include "memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "settings.h"

namespace emulator {
namespace {

constexpr std::size_t kUnit = 4096;  // a page, so that released memory can go back to the system

class Arena {
 public:
  explicit Arena(int card) : card_(card), size_(settings().memory / kUnit * kUnit) {
    file_ = memfd_create("sdaa-emulator", MFD_CLOEXEC);
    if (file_ < 0 || ftruncate(file_, static_cast<off_t>(size_)) != 0) fail("memfd_create");
    host_ = map(PROT_READ | PROT_WRITE);
    device_ = map(settings().strict ? PROT_NONE : PROT_READ | PROT_WRITE);
    holes_[0] = size_;
  }

  bool allocate(std::size_t wanted, void** address) {
    std::lock_guard<std::mutex> lock(mutex_);
    const std::size_t size = rounded(wanted);
    for (auto hole = holes_.begin(); hole != holes_.end(); ++hole) {
      if (hole->second < size) continue;
      const auto [offset, length] = *hole;
      holes_.erase(hole);
      if (length > size) holes_[offset + size] = length - size;
      used_ += size;
      *address = device_ + offset;
      return true;
    }
    std::fprintf(stderr,
                 "sdaa emulator: out of memory on card %d: %.1f MiB asked for, %.1f of %.1f MiB in use "
                 "(SDAA_EMULATOR_MEMORY sets the limit)\n",
                 card_, mebibytes(wanted), mebibytes(used_), mebibytes(size_));
    return false;
  }

  void release(void* address, std::size_t wanted) {
    std::lock_guard<std::mutex> lock(mutex_);
    std::size_t offset = static_cast<char*>(address) - device_, size = rounded(wanted);
    fallocate(file_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset), static_cast<off_t>(size));
    used_ -= size;
    auto next = holes_.lower_bound(offset);
    if (next != holes_.end() && offset + size == next->first) {
      size += next->second;
      next = holes_.erase(next);
    }
    if (next != holes_.begin()) {
      auto before = std::prev(next);
      if (before->first + before->second == offset) {
        before->second += size;
        return;
      }
    }
    holes_[offset] = size;
  }

  void* host_view(const void* address) const {
    const char* place = static_cast<const char*>(address);
    return place >= device_ && place < device_ + size_ ? host_ + (place - device_) : nullptr;
  }

  std::size_t size() const { return size_; }
  std::size_t unused() const { return size_ - used_; }

 private:
  static std::size_t rounded(std::size_t size) { return (size + kUnit - 1) / kUnit * kUnit; }
  static double mebibytes(std::size_t size) { return static_cast<double>(size) / (1 << 20); }

  [[noreturn]] static void fail(const char* what) {
    std::perror((std::string("sdaa emulator: ") + what).c_str());
    std::abort();
  }

  char* map(int protection) const {
    void* address = mmap(nullptr, size_, protection, MAP_SHARED | MAP_NORESERVE, file_, 0);
    if (address == MAP_FAILED) fail("mmap");
    return static_cast<char*>(address);
  }

  int card_, file_;
  std::size_t size_, used_ = 0;
  char *host_, *device_;
  std::map<std::size_t, std::size_t> holes_;  // offset to length, never touching each other
  mutable std::mutex mutex_;
};

// Arenas live until the process ends: Paddle frees tensors in destructors of static objects.
std::array<std::atomic<Arena*>, kMostCards> arenas{};

Arena& arena(int card) {
  static std::mutex mutex;
  if (Arena* there = arenas[card].load(std::memory_order_acquire)) return *there;
  std::lock_guard<std::mutex> lock(mutex);
  if (!arenas[card].load()) arenas[card].store(new Arena(card), std::memory_order_release);
  return *arenas[card].load();
}

}  // namespace

bool allocate(int card, std::size_t size, void** address) { return arena(card).allocate(size, address); }

void release(int card, void* address, std::size_t size) { arena(card).release(address, size); }

void memory_of(int card, std::size_t* total, std::size_t* unused) {
  *total = arena(card).size();
  *unused = arena(card).unused();
}

void* host_view(const void* address) {
  for (const auto& each : arenas) {
    const Arena* there = each.load(std::memory_order_acquire);
    if (void* found = there ? there->host_view(address) : nullptr) return found;
  }
  return const_cast<void*>(address);
}

}  // namespace emulator

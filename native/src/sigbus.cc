#include "sigbus.h"

#include <cerrno>
#include <csignal>
#include <mutex>

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace addon::sigbus {
namespace {

/**
 * A slot is free while `base` is 0 and guards nothing while `length` is 0. The handler may run in any thread
 * at any time, so it announces itself in `handlers` before it believes what it reads, and release() waits for
 * announced handlers before the range can be unmapped and the slot used again.
 */
struct Slot {
  std::atomic<uintptr_t> base{0};
  std::atomic<size_t> length{0};
  std::atomic<int> protection{0};
  std::atomic<uint32_t> pageRepairs{0};
  std::atomic<int> handlers{0};

  // The length is read first: a length from a newer use of the slot comes with the base that belongs to it.
  bool holds(uintptr_t address) const {
    const size_t bytes = length.load();
    return address - base.load() < bytes;
  }
};

static_assert(std::atomic<uintptr_t>::is_always_lock_free && std::atomic<size_t>::is_always_lock_free);

Slot slots[capacity];
std::atomic<size_t> slotsEverUsed{0};
std::atomic<size_t> slotsInUse{0};
std::atomic<uint32_t> repairCount{0};
size_t pageSize = 0;
struct sigaction previous = {};
std::mutex changing;  // never taken by the handler

/**
 * A page replaced in a larger range may cost two mappings, of which a process has 65,530, and a fault each. After
 * this many the range goes as a whole.
 */
constexpr uint32_t pageRepairsPerRange = 4096;

/** The raw system call: a handler may not enter an interceptor of mmap, such as a sanitizer's. */
bool putZeros(uintptr_t base, size_t length, int protection, int fixed) {
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | fixed;
  return syscall(SYS_mmap, base, length, protection, flags, -1, 0L) == static_cast<long>(base);
}

/** Unmapping first makes room when there are too many mappings even to replace one by another. */
bool replaceRange(uintptr_t base, size_t length, int protection) {
  return putZeros(base, length, protection, MAP_FIXED) ||
         (syscall(SYS_munmap, base, length) == 0 && putZeros(base, length, protection, MAP_FIXED_NOREPLACE));
}

/** A single page cannot be replaced inside a huge page. */
bool repairIn(Slot& slot, uintptr_t address) {
  const int protection = slot.protection.load();
  const uintptr_t page = address & ~(pageSize - 1);
  const bool onePage = slot.pageRepairs.fetch_add(1) < pageRepairsPerRange;
  return (onePage && putZeros(page, pageSize, protection, MAP_FIXED)) ||
         replaceRange(slot.base.load(), slot.length.load(), protection);
}

bool repair(uintptr_t address) {
  const size_t used = slotsEverUsed.load();
  for (size_t i = 0; i < used; i++) {
    Slot& slot = slots[i];
    if (!slot.holds(address)) continue;
    slot.handlers.fetch_add(1);
    const bool repaired = slot.holds(address) && repairIn(slot, address);
    slot.handlers.fetch_sub(1);
    if (!repaired) continue;
    repairCount.fetch_add(1);
    return true;
  }
  return false;
}

/** To the handler that was there before us, or to the default action. */
void passOn(int signal, siginfo_t* info, void* context) {
  if (previous.sa_flags & SA_SIGINFO) return previous.sa_sigaction(signal, info, context);
  const bool sentByProcess = info->si_code <= 0;
  if (previous.sa_handler == SIG_IGN && sentByProcess) return;
  if (previous.sa_handler != SIG_IGN && previous.sa_handler != SIG_DFL) return previous.sa_handler(signal);
  sigaction(SIGBUS, &previous, nullptr);  // a fault recurs on return and ends there
  if (sentByProcess) raise(signal);       // a signal that was sent does not recur
}

void onSigbus(int signal, siginfo_t* info, void* context) {
  const int kept = errno;
  const bool lostPage = info->si_code == BUS_ADRERR;
  if (!lostPage || !repair(reinterpret_cast<uintptr_t>(info->si_addr))) passOn(signal, info, context);
  errno = kept;
}

bool install() {
  static bool installed = false;
  if (installed) return true;
  pageSize = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  if (sigaction(SIGBUS, nullptr, &previous) != 0) return false;
  struct sigaction ours = {};
  ours.sa_sigaction = onSigbus;
  ours.sa_flags = SA_SIGINFO | SA_ONSTACK;
  installed = sigaction(SIGBUS, &ours, nullptr) == 0;
  return installed;
}

}  // namespace

int guard(void* base, size_t length, int protection) {
  const std::lock_guard lock(changing);
  if (!install()) return -1;
  for (size_t i = 0; i < capacity; i++) {
    Slot& slot = slots[i];
    if (slot.base.load() != 0) continue;
    slot.protection.store(protection);
    slot.pageRepairs.store(0);
    slot.base.store(reinterpret_cast<uintptr_t>(base));
    slot.length.store(length);
    if (i >= slotsEverUsed.load()) slotsEverUsed.store(i + 1);
    slotsInUse.fetch_add(1);
    return static_cast<int>(i);
  }
  errno = ENOSPC;
  return -1;
}

void release(int index) {
  const std::lock_guard lock(changing);
  Slot& slot = slots[index];
  slot.length.store(0);
  while (slot.handlers.load() > 0) {
    // Another thread is inside one mmap call.
  }
  slot.base.store(0);
  slotsInUse.fetch_sub(1);
}

std::atomic<uint32_t>& repairs() { return repairCount; }

size_t guards() { return slotsInUse.load(); }

}  // namespace addon::sigbus

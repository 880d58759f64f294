// The client may shrink a file that we have mapped; the next access then raises SIGBUS, perhaps in compiled
// JavaScript, where no exception can be thrown and no jump is safe. Inside a guarded range the handler puts
// zero pages in place of the lost ones, counts, and lets the access go on. Process-wide, like the signal.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace addon::sigbus {

constexpr size_t capacity = 8192;

/**
 * Guards whole pages from `base` on; `protection` is that of the pages which replace lost ones. Returns a
 * slot, or -1 with errno when all are taken or the handler cannot be installed. Call before the first access.
 */
int guard(void* base, size_t length, int protection);

/** Ends a guard. Call before unmapping: afterwards no handler replaces pages in the range any more. */
void release(int slot);

/** Repairs since the process began, modulo 2^32: one per page, or one per range that had to go whole. */
std::atomic<uint32_t>& repairs();

/** Slots in use. */
size_t guards();

}  // namespace addon::sigbus

#include "ram.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "measure.h"

struct ram ram_make(void) {
  struct ram ram = {.fd = memfd_create("bench-ram", MFD_CLOEXEC | MFD_ALLOW_SEALING)};
  if (ram.fd < 0) fail_errno("memfd_create");
  if (ftruncate(ram.fd, RAM_BYTES) != 0) fail_errno("ftruncate");
  if (fcntl(ram.fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) fail_errno("F_ADD_SEALS");
  void *bytes = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, ram.fd, 0);
  if (bytes == MAP_FAILED) fail_errno("mmap");
  ram.bytes = bytes;
  return ram;
}

void *ram_take(struct ram *ram, size_t length) {
  size_t whole = (length + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
  if (whole > RAM_BYTES - ram->taken) fail("guest RAM is used up");
  void *taken = ram->bytes + ram->taken;
  ram->taken += whole;
  return memset(taken, 0, whole);
}

uint64_t ram_address(const struct ram *ram, const void *at) {
  return RAM_ADDRESS + (uint64_t)((const uint8_t *)at - ram->bytes);
}

#include "ram.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "measure.h"

struct file_window map_file(int fd, uint64_t length) {
  void *bytes = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (bytes == MAP_FAILED) fail_errno("mmap");
  return (struct file_window){fd, bytes, length};
}

struct file_window memfd_make(const char *name, uint64_t length) {
  int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) fail_errno("memfd_create");
  if (ftruncate(fd, (off_t)length) != 0) fail_errno("ftruncate");
  if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) fail_errno("F_ADD_SEALS");
  return map_file(fd, length);
}

struct ram ram_make(void) {
  struct file_window memfd = memfd_make("bench-ram", RAM_BYTES);
  return (struct ram){.fd = memfd.fd, .bytes = memfd.bytes};
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

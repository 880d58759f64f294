/*
 * Guest RAM: one memfd, sealed as QEMU seals its own, mapped in the driver, in its helpers and, by DMA_MAP,
 * in the server. Handed out from the start, never given back.
 */
#ifndef BENCH_RAM_H
#define BENCH_RAM_H

#include <stddef.h>
#include <stdint.h>

#define PAGE_BYTES 4096u
#define RAM_BYTES (96u << 20)
/* Guest address of its first byte: RAM above 640 KiB starts at 1 MiB in a PC. */
#define RAM_ADDRESS 0x100000ull

struct ram {
  int fd;
  uint8_t *bytes;
  size_t taken;
};

/* A file, mapped whole. */
struct file_window {
  int fd;
  uint8_t *bytes;
  uint64_t length;
};

struct file_window map_file(int fd, uint64_t length);
/* A memfd of zeros that keeps its size. */
struct file_window memfd_make(const char *name, uint64_t length);
struct ram ram_make(void);
/* Whole pages, zeroed and present. */
void *ram_take(struct ram *ram, size_t length);
uint64_t ram_address(const struct ram *ram, const void *at);

#endif

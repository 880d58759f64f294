/*
 * scratchpad: drives the device of examples/scratchpad.ts from user space, without a driver: registers and memory
 * through the files of sysfs, DMA into a page of this program, and MSI-X with a message that is written to another page
 * of it, where it is seen as it comes.
 *
 *   scratchpad
 *
 * Prints a line per step, and ends with status 1 at the first one that goes wrong.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, REGISTERS_BYTES = 0x4000, MEMORY_BYTES = 0x10000 };
enum { ID = 0x00, STATUS = 0x04, ADDRESS_LOW = 0x08, ADDRESS_HIGH = 0x0c, OFFSET = 0x10, LENGTH = 0x14, COMMAND = 0x18 };
enum { LOAD = 1, STORE = 2, DONE = 2, FAILED = 3 };
enum { MSIX_TABLE = 0x1000, MESSAGE = 0x1234abc };
enum { PCI_COMMAND = 4, PCI_CAPABILITY_LIST = 0x34, PCI_CAP_ID_MSIX = 0x11 };

static volatile uint32_t *registers;
static volatile uint32_t *message;

static void die(const char *what) {
  printf("SCRATCHPAD error: %s: %s\n", what, strerror(errno));
  exit(1);
}

static void expect(int is_right, const char *what) {
  if (is_right) {
    printf("SCRATCHPAD %s\n", what);
    return;
  }
  printf("SCRATCHPAD error: not so: %s\n", what);
  exit(1);
}

static uint32_t reg(unsigned offset) { return registers[offset / 4]; }
static void set_reg(unsigned offset, uint32_t value) { registers[offset / 4] = value; }

static int open_in(const char *folder, const char *name) {
  char path[256];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  int fd = open(path, O_RDWR | O_CLOEXEC);
  if (fd < 0) die(path);
  return fd;
}

/* The folder of the device, by vendor and device id. */
static const char *find_device(void) {
  static glob_t found;
  if (glob("/sys/bus/pci/devices/*", 0, NULL, &found) != 0) die("no PCI devices");
  for (size_t i = 0; i < found.gl_pathc; i++) {
    int config = open_in(found.gl_pathv[i], "config");
    uint16_t ids[2];
    if (pread(config, ids, sizeof ids, 0) != sizeof ids) die("config");
    close(config);
    if (ids[0] == 0x1234 && ids[1] == 0x5c7a) return found.gl_pathv[i];
  }
  errno = ENODEV;
  die("scratchpad");
  return NULL;
}

static void *map_bar(const char *folder, const char *name, size_t length) {
  void *memory = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, open_in(folder, name), 0);
  if (memory == MAP_FAILED) die(name);
  return memory;
}

/* A page that stays where it is, and its guest physical address. */
static void *make_page(uint64_t *address) {
  void *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED | MAP_POPULATE, -1, 0);
  if (page == MAP_FAILED) die("a locked page");
  memset(page, 0, PAGE);
  uint64_t entry;
  int pagemap = open_in("/proc/self", "pagemap");
  if (pread(pagemap, &entry, sizeof entry, (uintptr_t)page / PAGE * sizeof entry) != sizeof entry) die("pagemap");
  close(pagemap);
  *address = (entry & ((UINT64_C(1) << 55) - 1)) * PAGE;
  return page;
}

/* Memory decoding and bus master on, and MSI-X with one message: a number for a page of this program. */
static void enable(const char *folder, uint64_t message_address) {
  int config = open_in(folder, "config");
  uint16_t command = 0x0006, control;
  if (pwrite(config, &command, sizeof command, PCI_COMMAND) != sizeof command) die("command register");
  volatile uint32_t *entry = registers + MSIX_TABLE / 4;
  entry[0] = (uint32_t)message_address;
  entry[1] = (uint32_t)(message_address >> 32);
  entry[2] = MESSAGE;
  entry[3] = 0;
  uint8_t at, capability[2];
  if (pread(config, &at, 1, PCI_CAPABILITY_LIST) != 1) die("capabilities");
  while (at != 0) {
    if (pread(config, capability, sizeof capability, at) != sizeof capability) die("capabilities");
    if (capability[0] == PCI_CAP_ID_MSIX) break;
    at = capability[1];
  }
  expect(at != 0, "has MSI-X");
  if (pread(config, &control, sizeof control, at + 2) != sizeof control) die("MSI-X control");
  expect((control & 0x7ff) == 0, "has one vector");
  control |= 0x8000;
  if (pwrite(config, &control, sizeof control, at + 2) != sizeof control) die("MSI-X control");
  close(config);
}

/* Gives a command, waits for the interrupt, and returns the status. */
static uint32_t run(uint32_t command, uint64_t address, uint32_t offset, uint32_t length) {
  *message = 0;
  set_reg(ADDRESS_LOW, (uint32_t)address);
  set_reg(ADDRESS_HIGH, (uint32_t)(address >> 32));
  set_reg(OFFSET, offset);
  set_reg(LENGTH, length);
  set_reg(COMMAND, command);
  for (int waited_ms = 0; *message == 0; waited_ms++) {
    if (waited_ms == 20000) {
      printf("SCRATCHPAD error: no interrupt in 20 s; status %u\n", reg(STATUS));
      exit(1);
    }
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
  }
  expect(*message == MESSAGE, "interrupt came");
  return reg(STATUS);
}

static int holds(const volatile uint8_t *bytes, size_t length, unsigned seed) {
  for (size_t i = 0; i < length; i++)
    if (bytes[i] != (uint8_t)(i * 7 + seed)) return 0;
  return 1;
}

static void fill(volatile uint8_t *bytes, size_t length, unsigned seed) {
  for (size_t i = 0; i < length; i++) bytes[i] = (uint8_t)(i * 7 + seed);
}

int main(void) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  const char *folder = find_device();
  int enabled = open_in(folder, "enable");
  if (write(enabled, "1", 1) != 1) die("enable");
  registers = map_bar(folder, "resource0", REGISTERS_BYTES);
  volatile uint8_t *memory = map_bar(folder, "resource2", MEMORY_BYTES);
  uint64_t data_address, message_address;
  uint8_t *data = make_page(&data_address);
  message = make_page(&message_address);
  enable(folder, message_address);

  expect(reg(ID) == 0x5c7a0001, "id register");
  expect(memory[0] == 0 && memory[MEMORY_BYTES - 1] == 0, "memory is empty");

  fill(memory + 0x100, PAGE, 1);
  expect(run(STORE, data_address, 0x100, PAGE) == DONE, "stored to guest memory");
  expect(holds(data, PAGE, 1), "guest memory has what the BAR had");

  fill(data, PAGE, 99);
  expect(run(LOAD, data_address, MEMORY_BYTES - PAGE, PAGE) == DONE, "loaded from guest memory");
  expect(holds(memory + MEMORY_BYTES - PAGE, PAGE, 99), "the BAR has what guest memory had");
  expect(holds(memory + 0x100, PAGE, 1), "the BAR keeps the rest");

  expect(run(STORE, data_address, MEMORY_BYTES - PAGE + 1, PAGE) == FAILED, "nothing beyond the end of the BAR");
  expect(run(LOAD, UINT64_C(0xfffffffffffff000), 0, PAGE) == FAILED, "nothing from where no memory is");
  expect(run(7, data_address, 0, PAGE) == FAILED, "no command 7");
  expect(holds(data, PAGE, 99) && holds(memory + 0x100, PAGE, 1), "nothing was touched");
  return 0;
}

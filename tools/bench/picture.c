#include "picture.h"

#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "measure.h"

#define SPREAD 4u
#define CACHE_LINE_BYTES 64u
#define SHUFFLE_SEED 0x9e3779b97f4a7c15ull

/* --- the picture --- */

/* xorshift64: every run shuffles alike. */
static uint64_t next_random(uint64_t *state) {
  *state ^= *state << 13;
  *state ^= *state >> 7;
  *state ^= *state << 17;
  return *state;
}

struct picture picture_make(struct ram *ram) {
  uint32_t order[SPREAD * PICTURE_PAGES];
  for (uint32_t i = 0; i < SPREAD * PICTURE_PAGES; i++) order[i] = i;
  uint64_t random = SHUFFLE_SEED;
  for (uint32_t i = SPREAD * PICTURE_PAGES - 1; i > 0; i--) {
    uint32_t other = (uint32_t)(next_random(&random) % (i + 1));
    uint32_t moved = order[i];
    order[i] = order[other];
    order[other] = moved;
  }
  uint8_t *area = ram_take(ram, (size_t)SPREAD * PICTURE_BYTES);
  struct picture picture = {.flat = ram_take(ram, PICTURE_BYTES)};
  for (uint32_t i = 0; i < PICTURE_PAGES; i++) picture.pages[i] = area + (size_t)order[i] * PAGE_BYTES;
  picture_paint_pages(&picture, 0);
  picture_paint_flat(&picture, 0);
  return picture;
}

static void paint_page(uint8_t *page, uint32_t seed) {
  for (uint32_t at = 0; at < PAGE_BYTES; at += sizeof seed) {
    uint32_t pixel = seed + at / 64;
    memcpy(page + at, &pixel, sizeof pixel);
  }
}

static uint32_t page_seed(uint32_t number, uint32_t page) {
  return (number + 1) * 0x01000193u + page * 0x9e3779b1u;
}

void picture_paint_pages(const struct picture *picture, uint32_t number) {
  for (uint32_t i = 0; i < PICTURE_PAGES; i++) paint_page(picture->pages[i], page_seed(number, i));
}

void picture_paint_flat(const struct picture *picture, uint32_t number) {
  for (uint32_t i = 0; i < PICTURE_PAGES; i++)
    paint_page(picture->flat + (size_t)i * PAGE_BYTES, page_seed(number, i));
}

uint32_t picture_hash(const uint8_t *pixels) {
  uint32_t hash = 0x811c9dc5u;
  for (size_t at = 0; at < PICTURE_BYTES; at += 4) {
    for (size_t channel = 0; channel < 3; channel++) hash = (hash ^ pixels[at + channel]) * 0x01000193u;
  }
  return hash;
}

uint8_t *picture_make_image(void) {
  int fd = memfd_create("bench-image", MFD_CLOEXEC);
  if (fd < 0) fail_errno("memfd_create");
  if (ftruncate(fd, PICTURE_BYTES) != 0) fail_errno("ftruncate");
  void *image = mmap(NULL, PICTURE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (image == MAP_FAILED) fail_errno("mmap");
  return memset(image, 0, PICTURE_BYTES);
}

void picture_gather(const struct picture *picture, uint8_t *image) {
  for (size_t i = 0; i < PICTURE_PAGES; i++) memcpy(image + i * PAGE_BYTES, picture->pages[i], PAGE_BYTES);
}

/* --- the copier --- */

enum order_to_copier {
  ORDER_GATHER,
  ORDER_COPY_FLAT,
  ORDER_LOOK_AT_PAGES,
  ORDER_LOOK_AT_FLAT,
  ORDER_GATHER_HASH,
  ORDER_FLAT_HASH,
};

/* One for each way to copy, so that neither finds its target in the cache because of the other. */
struct images {
  uint8_t *gathered;
  uint8_t *flat;
};

static uint64_t time_gather(const struct picture *picture, uint8_t *image) {
  uint64_t start = now_ns();
  picture_gather(picture, image);
  return now_ns() - start;
}

static uint64_t time_flat_copy(const struct picture *picture, uint8_t *image) {
  uint64_t start = now_ns();
  memcpy(image, picture->flat, PICTURE_BYTES);
  return now_ns() - start;
}

static uint64_t look(const uint8_t *bytes, size_t length) {
  uint64_t sum = 0;
  for (size_t at = 0; at < length; at += CACHE_LINE_BYTES) sum += *(const volatile uint8_t *)(bytes + at);
  return sum;
}

static uint64_t look_at_pages(const struct picture *picture) {
  uint64_t sum = 0;
  for (size_t i = 0; i < PICTURE_PAGES; i++) sum += look(picture->pages[i], PAGE_BYTES);
  return sum;
}

static uint64_t obey(const struct picture *picture, const struct images *images, enum order_to_copier order) {
  switch (order) {
    case ORDER_GATHER: return time_gather(picture, images->gathered);
    case ORDER_COPY_FLAT: return time_flat_copy(picture, images->flat);
    case ORDER_LOOK_AT_PAGES: return look_at_pages(picture);
    case ORDER_LOOK_AT_FLAT: return look(picture->flat, PICTURE_BYTES);
    case ORDER_GATHER_HASH: return picture_hash(images->gathered);
    case ORDER_FLAT_HASH: return picture_hash(images->flat);
  }
  fail("the copier knows no order %d", order);
}

static _Noreturn void run(const struct picture *picture, int cpu, int socket) {
  end_with_parent();
  stay_on_cpu(cpu);
  struct images images = {picture_make_image(), picture_make_image()};
  uint8_t order;
  while (recv(socket, &order, sizeof order, 0) == sizeof order) {
    uint64_t result = obey(picture, &images, order);
    if (send(socket, &result, sizeof result, MSG_NOSIGNAL) != sizeof result) break;
  }
  _exit(0);
}

struct copier copier_start(const struct picture *picture, int cpu) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) fail_errno("socketpair");
  pid_t pid = fork();
  if (pid < 0) fail_errno("fork");
  if (pid == 0) {
    close(ends[0]);
    run(picture, cpu, ends[1]);
  }
  close(ends[1]);
  return (struct copier){ends[0]};
}

static uint64_t ask(struct copier *copier, uint8_t order) {
  uint64_t result;
  if (send(copier->socket, &order, sizeof order, MSG_NOSIGNAL) != sizeof order) fail_errno("copier");
  if (recv(copier->socket, &result, sizeof result, 0) != sizeof result) fail("the copier has ended");
  return result;
}

uint64_t copier_gather(struct copier *copier) {
  return ask(copier, ORDER_GATHER);
}

uint64_t copier_copy_flat(struct copier *copier) {
  return ask(copier, ORDER_COPY_FLAT);
}

void copier_look_at_pages(struct copier *copier) {
  ask(copier, ORDER_LOOK_AT_PAGES);
}

void copier_look_at_flat(struct copier *copier) {
  ask(copier, ORDER_LOOK_AT_FLAT);
}

uint32_t copier_gather_hash(struct copier *copier) {
  return (uint32_t)ask(copier, ORDER_GATHER_HASH);
}

uint32_t copier_flat_hash(struct copier *copier) {
  return (uint32_t)ask(copier, ORDER_FLAT_HASH);
}

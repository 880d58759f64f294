/*
 * blobs: uses contexts and blobs of the virtio_gpu driver the way a Wayland proxy does, by plain ioctls, and says on
 * the serial line what it saw.
 *
 *   blobs params                what the driver says it can do, and the bytes of the capset
 *   blobs window BYTES...       blobs of these sizes, all at the same time. The first has seed 1, and so on.
 *                               They read as zeros and are written. After the picture "written" they hold what the
 *                               host wrote there: the pattern of seed + 100. After "closed" they are gone.
 *   blobs owners BYTES          two programs, A with seed 1 and B with seed 2: B makes its blob when A has closed its
 *                               own. A picture after each has written: "a" and "b".
 *   blobs leave BYTES SEED      writes a blob, picture "left", ends without tidying up
 *   blobs hold BYTES SEED       the same, picture "held", but something of it stays and holds the blob for ever
 *   blobs churn COUNT           makes and drops COUNT blobs of one page to 64 MiB, up to 16 at a time. Each reads as
 *                               zeros, is written, and holds what was written until it is dropped: every word of
 *                               small ones, the first and the last of each page of large ones
 *   blobs poll                  asks to be told of messages that never come, and goes on. While the request is pending
 *                               there is a picture, "pending"; and once more with a buffer: "pending-buffer"
 *   blobs refused               what cannot be had with a window of 256 MiB
 *   blobs sparse COUNT BYTES PAGES
 *                               blobs of which only the first and the last so many pages are written, all at the same
 *                               time; picture "sparse"; then they hold that still
 *   blobs fill BYTES            blobs of this size, each written all over, until one is refused, and then once more
 *                               when they are gone
 *   blobs overrun COUNT BYTES ROUNDS
 *                               one program has a blob of 1 MiB, another makes blobs, and when it has them all writes
 *                               to each page of them, as often as told; picture "overrun"; the first one has its blob
 *   blobs bar FILE              touches the whole window in steps of 64 KiB through a file of sysfs, which Linux
 *                               allows only while no blob is mapped: reads, writes, reads again; picture "touched"
 *
 * At a picture it prints "@@SHOT name" and waits for a line, as kms does. It fails when something is not as it has to
 * be. What the server gives back or refuses, the test sees from outside.
 *
 * WHAT IS IN A BLOB. test/guest/blobs.test.ts computes the same; the two files change together. The 32-bit word i of a
 * blob with seed s is
 *
 *     (i + 1) * 0x9e3779b1 + s * 0x85ebca6b mod 2^32
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "shot.h"
#include "virtgpu.h"

struct init {
  struct header header;
  uint32_t query_ring_id, channel_ring_id, channel_type;
};

struct get_image_requirements {
  struct header header;
  uint32_t width, height, format, flags;
};

struct poll_command {
  struct header header;
  uint64_t padding;
};

enum { PARAM_FIRST = 1, PARAM_LAST = VIRTGPU_PARAM_SUPPORTED_CAPSET_IDS, NO_RING = -1, IMAGE_LINEAR = 0x10 };

/* ---------------------------------------------------------------- small things */

enum { PAGE_WORDS = PAGE / 4, MAX_BLOBS = 16 };

__attribute__((format(printf, 1, 2), noreturn)) static void fail(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  printf("BLOBS error: ");
  vprintf(format, arguments);
  printf("\n");
  va_end(arguments);
  exit(1);
}
#define die(what) fail("%s: %s", what, strerror(errno))

static int call(int card, unsigned long request, void *argument) {
  int result;
  do result = ioctl(card, request, argument);
  while (result < 0 && (errno == EINTR || errno == EAGAIN));
  return result;
}

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static size_t round_up(size_t bytes) { return (bytes + PAGE - 1) / PAGE * PAGE; }

/* ---------------------------------------------------------------- contexts */

/* One program with its context and its two rings. */
struct client {
  int card;
  uint32_t rings[2], ring_resources[2];
  struct image_requirements *answer; /* the query ring */
};

static int open_card(void) {
  for (int number = 128; number < 144; number++) {
    char path[32], name[32] = "";
    snprintf(path, sizeof path, "/dev/dri/renderD%d", number);
    int card = open(path, O_RDWR | O_CLOEXEC);
    if (card < 0) continue;
    struct drm_version version = {.name = name, .name_len = sizeof name - 1};
    if (ioctl(card, DRM_IOCTL_VERSION, &version) == 0 && strcmp(name, "virtio_gpu") == 0) return card;
    close(card);
  }
  fail("no render node with the driver virtio_gpu");
}

static int init_context(int card, uint64_t capset) {
  struct virtgpu_context_parameter params[] = {
      {VIRTGPU_CONTEXT_PARAM_CAPSET_ID, capset},
      {VIRTGPU_CONTEXT_PARAM_NUM_RINGS, 2},
      {VIRTGPU_CONTEXT_PARAM_POLL_RINGS_MASK, 1 << CHANNEL_RING},
  };
  struct virtgpu_context_init request = {.count = 3, .parameters = (uintptr_t)params};
  return call(card, VIRTGPU_CONTEXT_INIT, &request);
}

/* Sends commands; with a ring also asks for a fence on it, which the buffer is then busy with. */
static int submit(int card, const void *commands, uint32_t size, int ring, uint32_t *buffer) {
  struct virtgpu_execbuffer request = {
      .flags = ring == NO_RING ? 0 : VIRTGPU_EXECBUF_RING_IDX,
      .size = size,
      .command = (uintptr_t)commands,
      .handles = (uintptr_t)buffer,
      .handle_count = buffer ? 1 : 0,
      .ring = ring == NO_RING ? 0 : (uint32_t)ring,
  };
  return call(card, VIRTGPU_EXECBUFFER, &request);
}

/* The memory of a blob, or NULL with errno. */
static void *map(int card, uint32_t handle, size_t size) {
  struct virtgpu_map request = {.handle = handle};
  if (call(card, VIRTGPU_MAP, &request) < 0) return NULL;
  void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, card, (off_t)request.offset);
  return memory == MAP_FAILED ? NULL : memory;
}

static void close_handle(int card, uint32_t handle) {
  struct drm_gem_close request = {.handle = handle};
  if (call(card, DRM_IOCTL_GEM_CLOSE, &request) < 0) die("GEM_CLOSE");
}

static struct init init_command(const struct client *client, uint32_t channel_type) {
  return (struct init){
      .header = {.command = INIT, .size = sizeof(struct init)},
      .query_ring_id = client->ring_resources[QUERY_RING],
      .channel_ring_id = client->ring_resources[CHANNEL_RING],
      .channel_type = channel_type,
  };
}

/* A context with rings, which the other side does not know yet. */
static struct client open_client(void) {
  struct client client = {.card = open_card()};
  if (init_context(client.card, CAPSET) < 0) die("CONTEXT_INIT");
  for (int ring = 0; ring < 2; ring++) {
    struct virtgpu_create_blob request = {
        .memory = VIRTGPU_BLOB_MEM_GUEST, .flags = VIRTGPU_BLOB_FLAG_USE_MAPPABLE, .size = PAGE};
    if (call(client.card, VIRTGPU_CREATE_BLOB, &request) < 0) die("CREATE_BLOB of a ring");
    client.rings[ring] = request.handle;
    client.ring_resources[ring] = request.resource;
  }
  client.answer = map(client.card, client.rings[QUERY_RING], PAGE);
  if (!client.answer) die("mapping the query ring");
  return client;
}

static struct client connect_client(void) {
  struct client client = open_client();
  struct init init = init_command(&client, 0);
  if (submit(client.card, &init, sizeof init, NO_RING, NULL) < 0) die("INIT");
  return client;
}

static void disconnect(struct client *client) {
  munmap(client->answer, PAGE);
  close(client->card);
}

/* What a buffer of so many bytes needs. */
static struct image_requirements query(struct client *client, uint32_t width, uint32_t height) {
  struct get_image_requirements request = {
      .header = {.command = GET_IMAGE_REQUIREMENTS, .size = sizeof request},
      .width = width,
      .height = height,
      .format = R8,
      .flags = IMAGE_LINEAR,
  };
  memset(client->answer, 0xee, sizeof *client->answer);
  if (submit(client->card, &request, sizeof request, QUERY_RING, &client->rings[QUERY_RING]) < 0)
    die("GET_IMAGE_REQUIREMENTS");
  struct virtgpu_wait wait = {.handle = client->rings[QUERY_RING]};
  if (call(client->card, VIRTGPU_WAIT, &wait) < 0) die("WAIT");
  return *client->answer;
}

/* ---------------------------------------------------------------- blobs */

struct blob {
  uint32_t handle, seed;
  size_t size;
  uint32_t *words;
};

/* The handle of a blob, or 0 with errno. */
static uint32_t create_blob(int card, uint32_t blob_id, size_t size, uint32_t flags) {
  struct virtgpu_create_blob request = {
      .memory = VIRTGPU_BLOB_MEM_HOST3D, .flags = flags, .size = size, .id = blob_id};
  return call(card, VIRTGPU_CREATE_BLOB, &request) < 0 ? 0 : request.handle;
}

/* The id that makes blobs of so many bytes, which may be made as often as one likes. */
static uint32_t query_id(struct client *client, size_t size) {
  struct image_requirements image = query(client, (uint32_t)size, 1);
  if (image.size != round_up(size) || image.blob_id == 0 || image.map_info != 1 || image.strides[0] != size)
    fail("requirements of %zu bytes: size=%llu id=%u map_info=%u stride=%u", size, (unsigned long long)image.size,
         image.blob_id, image.map_info, image.strides[0]);
  return image.blob_id;
}

static struct blob make_known_blob(struct client *client, uint32_t blob_id, size_t size, uint32_t seed) {
  struct blob blob = {.seed = seed, .size = round_up(size)};
  const uint32_t flags = VIRTGPU_BLOB_FLAG_USE_MAPPABLE | VIRTGPU_BLOB_FLAG_USE_SHAREABLE;
  blob.handle = create_blob(client->card, blob_id, blob.size, flags);
  if (blob.handle == 0) die("CREATE_BLOB");
  blob.words = map(client->card, blob.handle, blob.size);
  if (!blob.words) die("mapping a blob");
  return blob;
}

static struct blob make_blob(struct client *client, size_t size, uint32_t seed) {
  return make_known_blob(client, query_id(client, size), size, seed);
}

static void drop_blob(struct client *client, struct blob *blob) {
  munmap(blob->words, blob->size);
  close_handle(client->card, blob->handle);
  blob->words = NULL;
}

static uint32_t pattern(uint32_t seed, size_t i) { return ((uint32_t)i + 1) * 0x9e3779b1u + seed * 0x85ebca6bu; }

static void write_words(struct blob *blob) {
  for (size_t i = 0; i < blob->size / 4; i++) blob->words[i] = pattern(blob->seed, i);
}

static void expect_words(const struct blob *blob, uint32_t seed) {
  for (size_t i = 0; i < blob->size / 4; i++)
    if (blob->words[i] != pattern(seed, i))
      fail("word %zu of %zu bytes is 0x%08x, not 0x%08x", i, blob->size, blob->words[i], pattern(seed, i));
}

static void expect_zeros(const struct blob *blob) {
  const uint64_t *pairs = (const uint64_t *)(const void *)blob->words;
  for (size_t i = 0; i < blob->size / 8; i++)
    if (pairs[i] != 0)
      fail("a new blob of %zu bytes has 0x%016llx at %zu", blob->size, (unsigned long long)pairs[i], 8 * i);
}

/* ---------------------------------------------------------------- parts */

static void run_params(void) {
  int card = open_card();
  uint64_t capsets = 0;
  for (uint64_t param = PARAM_FIRST; param <= PARAM_LAST; param++) {
    /* The driver writes 32 bits for most of them. */
    uint64_t value = 0;
    struct virtgpu_getparam request = {.parameter = param, .value = (uintptr_t)&value};
    if (call(card, VIRTGPU_GETPARAM, &request) < 0) die("GETPARAM");
    printf("BLOBS param=%u value=%llu\n", (unsigned)param, (unsigned long long)value);
    capsets = value;
  }
  for (uint32_t id = 1; id < 64; id++) {
    if (!(capsets >> id & 1)) continue;
    uint8_t bytes[16] = {0};
    struct virtgpu_get_caps request = {.id = id, .bytes = (uintptr_t)bytes, .size = sizeof bytes};
    if (call(card, VIRTGPU_GET_CAPS, &request) < 0) die("GET_CAPS");
    printf("BLOBS capset=%u bytes=", id);
    for (size_t i = 0; i < sizeof bytes; i++) printf("%02x", bytes[i]);
    printf("\n");
  }
  close(card);
}

static void run_window(int count, char **sizes) {
  struct blob blobs[MAX_BLOBS];
  struct client client = connect_client();
  for (int i = 0; i < count; i++) {
    blobs[i] = make_blob(&client, strtoul(sizes[i], NULL, 0), (uint32_t)i + 1);
    expect_zeros(&blobs[i]);
    write_words(&blobs[i]);
    printf("BLOBS wrote seed=%u bytes=%zu\n", blobs[i].seed, blobs[i].size);
  }
  shot("written");
  for (int i = 0; i < count; i++) {
    expect_words(&blobs[i], blobs[i].seed + 100);
    printf("BLOBS read seed=%u bytes=%zu\n", blobs[i].seed + 100, blobs[i].size);
  }
  for (int i = 0; i < count; i++) drop_blob(&client, &blobs[i]);
  shot("closed");
  disconnect(&client);
}

static void run_owners(size_t size) {
  struct client a = connect_client(), b = connect_client();
  struct blob blob = make_blob(&a, size, 1);
  expect_zeros(&blob);
  write_words(&blob);
  shot("a");
  drop_blob(&a, &blob);
  /* The driver gives the range away when it has heard that the blob is gone. Whatever it sends next waits for that. */
  query(&a, 1, 1);
  blob = make_blob(&b, size, 2);
  expect_zeros(&blob);
  write_words(&blob);
  shot("b");
  drop_blob(&b, &blob);
  disconnect(&a);
  disconnect(&b);
}

static void run_alone(size_t size, uint32_t seed, bool holds) {
  struct client client = connect_client();
  struct blob blob = make_blob(&client, size, seed);
  expect_zeros(&blob);
  write_words(&blob);
  shot(holds ? "held" : "left");
  if (holds) {
    pid_t child = fork();
    if (child < 0) die("fork");
    if (child == 0)
      for (;;) pause();
  }
  printf("BLOBS done\n");
  _exit(0);
}

static uint32_t next_random(uint32_t *state) {
  *state ^= *state << 13;
  *state ^= *state >> 17;
  *state ^= *state << 5;
  return *state;
}

enum {
  CHURN_ALIVE = 16,
  CHURN_ALIVE_BYTES = 128 << 20,
  CHURN_LARGEST = 64 << 20,
  CHURN_ALL_WORDS = 64 << 10,
  CHURN_ALL_ZEROS = 1 << 20,
};

/* Mostly small, 117 pages on average, with the smallest and the largest one among them. */
static size_t churn_size(uint32_t turn, uint32_t *random) {
  uint32_t kind = next_random(random) % 1000, value = next_random(random);
  uint32_t most = kind < 700 ? 16 : kind < 950 ? 256 : kind < 997 ? 2048 : CHURN_LARGEST / PAGE;
  if (turn == 1) return PAGE;
  if (turn == 2) return CHURN_LARGEST;
  return (size_t)(1 + value % most) * PAGE;
}

/* Small blobs are written everywhere, larger ones at both ends of each page. */
static size_t next_word(const struct blob *blob, size_t i) {
  return blob->size > CHURN_ALL_WORDS && i % PAGE_WORDS == 0 ? i + PAGE_WORDS - 1 : i + 1;
}

static size_t churn_drop(struct client *client, struct blob *blob) {
  for (size_t i = 0; i < blob->size / 4; i = next_word(blob, i))
    if (blob->words[i] != pattern(blob->seed, i))
      fail("word %zu of %zu bytes is 0x%08x", i, blob->size, blob->words[i]);
  drop_blob(client, blob);
  return blob->size;
}

static void run_churn(uint32_t count) {
  struct client client = connect_client();
  struct blob blobs[CHURN_ALIVE] = {0};
  static uint32_t ids[(CHURN_LARGEST / PAGE) + 1]; /* by pages; real programs remember them as well */
  uint32_t random = 0x2545f491;
  size_t alive = 0, largest = 0, total = 0;
  double start = seconds();
  for (uint32_t turn = 0; turn < count; turn++) {
    size_t size = churn_size(turn, &random);
    uint32_t slot = next_random(&random) % CHURN_ALIVE;
    /* Room for it, in any order. */
    for (uint32_t i = slot; blobs[slot].words || alive + size > CHURN_ALIVE_BYTES; i = (i + 1) % CHURN_ALIVE)
      if (blobs[i].words) alive -= churn_drop(&client, &blobs[i]);
    uint32_t *id = &ids[size / PAGE];
    if (*id == 0) *id = query_id(&client, size);
    struct blob blob = blobs[slot] = make_known_blob(&client, *id, size, turn);
    alive += size;
    total += size;
    if (alive > largest) largest = alive;
    if (size <= CHURN_ALL_ZEROS) expect_zeros(&blob);
    for (size_t i = 0; i < size / 4; i = next_word(&blob, i)) {
      if (blob.words[i] != 0) fail("a new blob of %zu bytes has 0x%08x at word %zu", size, blob.words[i], i);
      blob.words[i] = pattern(turn, i);
    }
  }
  for (uint32_t i = 0; i < CHURN_ALIVE; i++)
    if (blobs[i].words) churn_drop(&client, &blobs[i]);
  printf("BLOBS churn count=%u mib=%zu most_mib=%zu seconds=%.1f\n", count, total >> 20, largest >> 20,
         seconds() - start);
  disconnect(&client);
}

/* Whether the other side says within a fifth of a second that a message has come. */
static bool is_told(const struct client *client) {
  struct pollfd watched = {.fd = client->card, .events = POLLIN};
  return poll(&watched, 1, 200) != 0;
}

static void run_poll(void) {
  for (int with_buffer = 0; with_buffer < 2; with_buffer++) {
    struct client client = connect_client();
    struct poll_command command = {.header = {.command = POLL, .size = sizeof command}};
    uint32_t *buffer = with_buffer ? &client.rings[CHANNEL_RING] : NULL;
    if (submit(client.card, &command, sizeof command, CHANNEL_RING, buffer) < 0) die("POLL");
    bool told = is_told(&client);
    /* Others do not wait for it, and neither do the other commands of this one. */
    struct client other = connect_client();
    struct blob blob = make_blob(&client, PAGE, 1), others = make_blob(&other, PAGE, 2);
    write_words(&blob);
    write_words(&others);
    expect_words(&blob, 1);
    told |= is_told(&client);
    shot(with_buffer ? "pending-buffer" : "pending");
    drop_blob(&client, &blob);
    drop_blob(&other, &others);
    disconnect(&other);
    disconnect(&client);
    printf("BLOBS poll buffer=%d told=%d\n", with_buffer, told);
  }
}

/* Says how far one gets with a blob that cannot be, or not be mapped. */
static void try_blob(int card, const char *what, uint32_t blob_id, size_t size, uint32_t flags) {
  uint32_t handle = create_blob(card, blob_id, size, flags);
  if (handle == 0) {
    printf("BLOBS refused what=%s create=%s\n", what, strerrorname_np(errno));
    return;
  }
  void *memory = map(card, handle, size);
  printf("BLOBS refused what=%s mmap=%s\n", what, memory ? "0" : strerrorname_np(errno));
  if (memory) munmap(memory, size);
  close_handle(card, handle);
}

static void try_query(struct client *client, const char *what, uint32_t width, uint32_t height) {
  struct image_requirements image = query(client, width, height);
  printf("BLOBS refused what=%s size=%llu id=%u\n", what, (unsigned long long)image.size, image.blob_id);
}

static void run_refused(void) {
  const uint32_t mappable = VIRTGPU_BLOB_FLAG_USE_MAPPABLE | VIRTGPU_BLOB_FLAG_USE_SHAREABLE;
  int bare = open_card();
  try_blob(bare, "no-context", 2, PAGE, mappable);
  close(bare);

  int unknown = open_card();
  if (init_context(unknown, 2) < 0) printf("BLOBS refused what=capset-2 init=%s\n", strerrorname_np(errno));
  close(unknown);

  /* A query without INIT has nowhere to put the answer; one with a channel that nobody has is no INIT. */
  struct client client = open_client();
  struct init bad = init_command(&client, 0x7f), good = init_command(&client, 0);
  if (submit(client.card, &bad, sizeof bad, NO_RING, NULL) < 0) die("INIT");
  struct image_requirements image = query(&client, PAGE, 1);
  printf("BLOBS refused what=no-init untouched=%d\n", image.size == 0xeeeeeeeeeeeeeeeeu);
  for (int time = 0; time < 2; time++)
    if (submit(client.card, &good, sizeof good, NO_RING, NULL) < 0) die("INIT");

  image = query(&client, 3 * PAGE, 1);
  try_blob(client.card, "blob-id-0", 0, PAGE, mappable);
  try_blob(client.card, "blob-id-999", 999, PAGE, mappable);
  try_blob(client.card, "smaller", image.blob_id, 2 * PAGE, mappable);
  try_blob(client.card, "larger", image.blob_id, 20 * PAGE, mappable);
  try_blob(client.card, "not-mappable", image.blob_id, 3 * PAGE, VIRTGPU_BLOB_FLAG_USE_SHAREABLE);
  struct client other = connect_client();
  try_blob(other.card, "of-another", image.blob_id, 3 * PAGE, mappable);
  disconnect(&other);
  try_query(&client, "no-pixels", 0, 0);
  try_query(&client, "too-large", 0xffffffff, 0xffffffff);
  image = query(&client, 512 << 20, 1);
  try_blob(client.card, "larger-than-window", image.blob_id, image.size, mappable);
  struct header odd = {.command = 99, .size = 8}, endless = {.command = POLL, .size = 0};
  if (submit(client.card, &odd, sizeof odd, NO_RING, NULL) < 0) die("an unknown command");
  if (submit(client.card, &endless, sizeof endless, NO_RING, NULL) < 0) die("a command of no bytes");
  if (submit(client.card, &odd, sizeof odd, 2, NULL) < 0)
    printf("BLOBS refused what=ring-2 submit=%s\n", strerrorname_np(errno));

  struct blob blob = make_blob(&client, 480000, 5);
  write_words(&blob);
  expect_words(&blob, 5);
  drop_blob(&client, &blob);
  disconnect(&client);
  printf("BLOBS refused done\n");
}

/* The ends of a blob, or what they hold. */
static void for_ends(const struct blob *blob, size_t pages, bool writes) {
  const size_t words = pages * PAGE_WORDS, all = blob->size / 4;
  for (size_t i = 0; i < all; i = i + 1 == words ? all - words : i + 1) {
    if (writes) blob->words[i] = pattern(blob->seed, i);
    else if (blob->words[i] != pattern(blob->seed, i)) fail("word %zu of a sparse blob is 0x%08x", i, blob->words[i]);
  }
}

static void run_sparse(size_t count, size_t size, size_t pages) {
  struct client client = connect_client();
  struct blob *blobs = calloc(count, sizeof *blobs);
  if (!blobs) die("memory");
  for (size_t i = 0; i < count; i++) {
    blobs[i] = make_blob(&client, size, (uint32_t)i + 1);
    for_ends(&blobs[i], pages, true);
  }
  shot("sparse");
  for (size_t i = 0; i < count; i++) for_ends(&blobs[i], pages, false);
  for (size_t i = 0; i < count; i++) drop_blob(&client, &blobs[i]);
  disconnect(&client);
}

static void touch_pages(const struct blob *blob) {
  for (size_t i = 0; i < blob->size / 4; i += PAGE_WORDS) blob->words[i] = pattern(blob->seed, i);
}

static void run_fill(size_t size) {
  struct client client = connect_client();
  const uint32_t blob_id = query_id(&client, size), flags = VIRTGPU_BLOB_FLAG_USE_MAPPABLE;
  for (int round = 0; round < 2; round++) {
    struct blob blobs[256];
    int made = 0, error = 0;
    while (made < 256 && !error) {
      struct blob blob = {.seed = 1, .size = round_up(size)};
      blob.handle = create_blob(client.card, blob_id, blob.size, flags);
      if (blob.handle == 0) die("CREATE_BLOB");
      blob.words = map(client.card, blob.handle, blob.size);
      error = blob.words ? 0 : errno;
      if (error) {
        close_handle(client.card, blob.handle);
      } else {
        touch_pages(&blob);
        blobs[made++] = blob;
      }
    }
    printf("BLOBS fill made=%d mmap=%s\n", made, error ? strerrorname_np(error) : "OK");
    while (made > 0) drop_blob(&client, &blobs[--made]);
    query(&client, 1, 1);
  }
  disconnect(&client);
}

static void run_overrun(size_t count, size_t size, size_t rounds) {
  struct client bystander = connect_client(), client = connect_client();
  struct blob small = make_blob(&bystander, 1 << 20, 99);
  write_words(&small);
  struct blob *blobs = calloc(count, sizeof *blobs);
  if (!blobs) die("memory");
  for (size_t i = 0; i < count; i++) blobs[i] = make_blob(&client, size, (uint32_t)i + 1);
  const double start = seconds();
  for (size_t round = 0; round < rounds; round++)
    for (size_t i = 0; i < count; i++) touch_pages(&blobs[i]);
  const double mib = (double)(rounds * count * size) / (1 << 20);
  printf("BLOBS overrun mib=%.0f seconds=%.3f\n", mib, seconds() - start);
  shot("overrun");
  expect_words(&small, small.seed);
  errno = 0;
  const uint32_t handle = create_blob(client.card, query_id(&client, PAGE), PAGE, VIRTGPU_BLOB_FLAG_USE_MAPPABLE);
  printf("BLOBS overrun more=%s", handle && map(client.card, handle, PAGE) ? "OK" : strerrorname_np(errno));
  struct blob more = make_blob(&bystander, PAGE, 100);
  write_words(&more);
  printf(" bystander=OK\n");
  for (size_t i = 0; i < count; i++) drop_blob(&client, &blobs[i]);
  disconnect(&client);
  disconnect(&bystander);
}

static void run_bar(const char *path) {
  enum { STEP = 64 << 10 };
  int file = open(path, O_RDWR | O_CLOEXEC);
  struct stat status;
  if (file < 0 || fstat(file, &status) < 0) die(path);
  size_t size = (size_t)status.st_size;
  uint32_t *words = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (words == MAP_FAILED) die("mapping the window");
  size_t used = 0, kept = 0;
  for (size_t at = 0; at < size; at += STEP) used += words[at / 4] != 0;
  for (size_t at = 0; at < size; at += STEP) words[at / 4] = pattern(3, at / 4);
  for (size_t at = 0; at < size; at += STEP) kept += words[at / 4] == pattern(3, at / 4);
  printf("BLOBS bar bytes=%zu steps=%zu used=%zu kept=%zu\n", size, size / STEP, used, kept);
  shot("touched");
}

/* ---------------------------------------------------------------- main */

static void usage(void) {
  fprintf(stderr, "usage: blobs params | window BYTES... | owners BYTES | leave BYTES SEED | hold BYTES SEED |\n"
                  "             churn COUNT | poll | refused | sparse COUNT BYTES PAGES | fill BYTES |\n"
                  "             overrun COUNT BYTES ROUNDS | bar FILE\n");
  exit(2);
}

static unsigned long number(const char *text) {
  char *end;
  unsigned long value = strtoul(text, &end, 0);
  if (*text == '\0' || *end != '\0') usage();
  return value;
}

int main(int argc, char **argv) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  const char *part = argc > 1 ? argv[1] : "";
  int count = argc - 2;
  if (strcmp(part, "params") == 0 && count == 0) run_params();
  else if (strcmp(part, "window") == 0 && count > 0 && count <= MAX_BLOBS) run_window(count, argv + 2);
  else if (strcmp(part, "owners") == 0 && count == 1) run_owners(number(argv[2]));
  else if (strcmp(part, "leave") == 0 && count == 2) run_alone(number(argv[2]), (uint32_t)number(argv[3]), false);
  else if (strcmp(part, "hold") == 0 && count == 2) run_alone(number(argv[2]), (uint32_t)number(argv[3]), true);
  else if (strcmp(part, "churn") == 0 && count == 1) run_churn((uint32_t)number(argv[2]));
  else if (strcmp(part, "poll") == 0 && count == 0) run_poll();
  else if (strcmp(part, "refused") == 0 && count == 0) run_refused();
  else if (strcmp(part, "sparse") == 0 && count == 3) run_sparse(number(argv[2]), number(argv[3]), number(argv[4]));
  else if (strcmp(part, "fill") == 0 && count == 1) run_fill(number(argv[2]));
  else if (strcmp(part, "overrun") == 0 && count == 3) run_overrun(number(argv[2]), number(argv[3]), number(argv[4]));
  else if (strcmp(part, "bar") == 0 && count == 1) run_bar(argv[2]);
  else usage();
  printf("BLOBS done\n");
  return 0;
}

#include "measure.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_SECOND 1000000000ull
/* Long enough for a process that has nothing to do any more to sleep. */
#define SETTLE_US 2000

_Noreturn void fail(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fprintf(stderr, "%s: ", program_invocation_short_name);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  va_end(arguments);
  exit(1);
}

_Noreturn void fail_errno(const char *what) {
  fail("%s: %s", what, strerror(errno));
}

uint64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * NS_PER_SECOND + (uint64_t)now.tv_nsec;
}

uint64_t idle_thread_ns(pid_t pid) {
  usleep(SETTLE_US);
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/task/%d/schedstat", (int)pid, (int)pid);
  FILE *file = fopen(path, "r");
  uint64_t used;
  if (file == NULL || fscanf(file, "%" SCNu64, &used) != 1) fail_errno(path);
  fclose(file);
  return used;
}

uint64_t all_threads_ns(pid_t pid) {
  clockid_t clock;
  struct timespec used;
  if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &used) != 0) fail("no clock of %d", (int)pid);
  return (uint64_t)used.tv_sec * NS_PER_SECOND + (uint64_t)used.tv_nsec;
}

static uint32_t parse_number(const char *text) {
  char *end;
  unsigned long number = strtoul(text, &end, 10);
  if (*text == '\0' || *end != '\0' || number > UINT32_MAX) fail("%s is not a number", text);
  return (uint32_t)number;
}

int cpu_number(const char *text) {
  return (int)parse_number(text);
}

void stay_on_cpu(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  if (sched_setaffinity(0, sizeof set, &set) != 0) fail_errno("sched_setaffinity");
}

int connect_to(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof address.sun_path) fail("path is too long: %s", path);
  strcpy(address.sun_path, path);
  int connected = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (connected < 0 || connect(connected, (struct sockaddr *)&address, sizeof address) != 0) fail_errno(path);
  return connected;
}

void end_with_parent(void) {
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) fail_errno("prctl");
}

/* --- samples --- */

void samples_begin(struct samples *samples, size_t room) {
  *samples = (struct samples){.values = malloc(room * sizeof *samples->values), .room = room};
  if (samples->values == NULL) fail_errno("malloc");
  memset(samples->values, 0, room * sizeof *samples->values); /* no page fault while the clock runs */
}

void samples_add(struct samples *samples, uint64_t value) {
  if (samples->count == samples->room) fail("more than %zu samples", samples->room);
  samples->values[samples->count++] = value;
}

static int ascending(const void *left, const void *right) {
  uint64_t a = *(const uint64_t *)left;
  uint64_t b = *(const uint64_t *)right;
  return (a > b) - (a < b);
}

/* The sample below which `per_mille` of a thousand lie. */
static uint64_t quantile(const struct samples *sorted, unsigned per_mille) {
  return sorted->values[(sorted->count - 1) * per_mille / 1000];
}

void samples_print(const char *name, struct samples *samples) {
  if (samples->count == 0) fail("no samples of %s", name);
  qsort(samples->values, samples->count, sizeof *samples->values, ascending);
  uint64_t sum = 0;
  for (size_t i = 0; i < samples->count; i++) sum += samples->values[i];
  printf("\"%s\":{\"count\":%zu,\"min\":%" PRIu64 ",\"median\":%" PRIu64 ",\"p90\":%" PRIu64
         ",\"p99\":%" PRIu64 ",\"max\":%" PRIu64 ",\"mean\":%.1f}",
         name, samples->count, samples->values[0], quantile(samples, 500), quantile(samples, 900),
         quantile(samples, 990), samples->values[samples->count - 1], (double)sum / (double)samples->count);
}

void samples_end(struct samples *samples) {
  free(samples->values);
  *samples = (struct samples){0};
}

/* --- orders --- */

bool order_next(struct order *order) {
  if (fgets(order->line, sizeof order->line, stdin) == NULL) return false;
  order->count = 0;
  for (char *word = strtok(order->line, " \n"); word != NULL; word = strtok(NULL, " \n")) {
    if (order->count == ORDER_WORDS) fail("order of more than %d words", ORDER_WORDS);
    order->words[order->count++] = word;
  }
  if (order->count == 0) fail("empty order");
  return true;
}

bool order_is(const struct order *order, const char *name) {
  return strcmp(order->words[0], name) == 0;
}

const char *order_word(const struct order *order, size_t index) {
  if (index >= order->count) fail("order %s needs more words", order->words[0]);
  return order->words[index];
}

uint32_t order_number(const struct order *order, size_t index) {
  return parse_number(order_word(order, index));
}

void order_answered(void) {
  putchar('\n');
  if (fflush(stdout) != 0) fail_errno("stdout");
}

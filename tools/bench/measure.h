/*
 * What every program of the benchmark needs: a clock, samples and their summary, a CPU to stay on, sockets, orders
 * read line by line from whoever runs the program, and an end that says why.
 */
#ifndef BENCH_MEASURE_H
#define BENCH_MEASURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Ends the process with this message on stderr: one that goes on after a surprise measures nothing. */
_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The same with the text of errno. */
_Noreturn void fail_errno(const char *what);

uint64_t now_ns(void);
/*
 * Time on a CPU: of the main thread of a process, and of all its threads. To be asked when it has nothing to do
 * any more: the first waits a moment, because both are exact only while the threads sleep.
 */
uint64_t idle_thread_ns(pid_t pid);
uint64_t all_threads_ns(pid_t pid);
/* The number of a CPU in an argument. */
int cpu_number(const char *text);
/* Keeps this process on one CPU from now on. */
void stay_on_cpu(int cpu);
/* Connects to a Unix socket of the kind SOCK_STREAM. */
int connect_to(const char *path);
/* A child must not outlive whoever started it, however that one ended. To be called in the child. */
void end_with_parent(void);

struct samples {
  uint64_t *values;
  size_t count;
  size_t room;
};

void samples_begin(struct samples *samples, size_t room);
void samples_add(struct samples *samples, uint64_t value);
/* Prints `"name":{"count":N,"min":N,"median":N,"p90":N,"p99":N,"max":N,"mean":N}`; sorts them. */
void samples_print(const char *name, struct samples *samples);
void samples_end(struct samples *samples);

/* An order is one line: a word, then its arguments. */
#define ORDER_WORDS 4

struct order {
  char line[256];
  const char *words[ORDER_WORDS];
  size_t count;
};

/* False at the end of the input. */
bool order_next(struct order *order);
bool order_is(const struct order *order, const char *name);
const char *order_word(const struct order *order, size_t index);
uint32_t order_number(const struct order *order, size_t index);
/* Prints the end of the answer's line and sends it off. */
void order_answered(void);

#endif

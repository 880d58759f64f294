/* How a program asks the host for a picture. */
#ifndef GUEST_SHOT_H
#define GUEST_SHOT_H

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

static void wait_for_line(void) {
  char byte;
  ssize_t length;
  do length = read(STDIN_FILENO, &byte, 1);
  while ((length == 1 && byte != '\n') || (length < 0 && errno == EINTR));
}

static void shot(const char *name) {
  printf("@@SHOT %s\n", name);
  wait_for_line();
}

#endif

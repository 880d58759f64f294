/*
 * launch ready COMMAND...    until the command says READY=1 (sd_notify)
 * launch exit COMMAND...     until the command ends
 *
 * Prints `{"ns":N,"pid":N}`: the time from before the fork, and who it was. A command that is ready runs on
 * until the input of `launch` ends, and gets a SIGTERM then. It must end well in both cases.
 */
#include <signal.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "measure.h"

#define READY_TIMEOUT_SECONDS 30

/* A datagram socket with an abstract name, which the kernel picks; its name goes to the child. */
static int make_notify_socket(void) {
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) fail_errno("socket");
  struct sockaddr_un name = {.sun_family = AF_UNIX};
  if (bind(fd, (struct sockaddr *)&name, sizeof name.sun_family) != 0) fail_errno("bind");
  socklen_t length = sizeof name;
  if (getsockname(fd, (struct sockaddr *)&name, &length) != 0) fail_errno("getsockname");
  char text[sizeof name.sun_path + 1] = "@";
  size_t name_length = length - offsetof(struct sockaddr_un, sun_path) - 1;
  memcpy(text + 1, name.sun_path + 1, name_length);
  if (setenv("NOTIFY_SOCKET", text, 1) != 0) fail_errno("setenv");
  struct timeval limit = {.tv_sec = READY_TIMEOUT_SECONDS};
  if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) != 0) fail_errno("SO_RCVTIMEO");
  return fd;
}

static pid_t start(char **command) {
  pid_t pid = fork();
  if (pid < 0) fail_errno("fork");
  if (pid != 0) return pid;
  end_with_parent();
  execvp(command[0], command);
  fail_errno(command[0]);
}

static void wait_until_ready(int notify) {
  for (;;) {
    char text[64] = "";
    if (recv(notify, text, sizeof text - 1, 0) < 0) fail_errno("the command did not say READY=1");
    if (strncmp(text, "READY=1", 7) == 0) return;
  }
}

static void wait_until_ended(pid_t pid) {
  int status;
  if (waitpid(pid, &status, 0) != pid) fail_errno("waitpid");
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
    fail("the command ended with status 0x%x", (unsigned)status);
}

int main(int argc, char **argv) {
  if (argc < 3) fail("usage: launch ready|exit COMMAND...");
  end_with_parent();
  bool until_ready = strcmp(argv[1], "ready") == 0;
  int notify = make_notify_socket();
  uint64_t begin = now_ns();
  pid_t pid = start(argv + 2);
  if (until_ready) {
    wait_until_ready(notify);
  } else {
    wait_until_ended(pid);
  }
  uint64_t end = now_ns();
  printf("{\"ns\":%" PRIu64 ",\"pid\":%d}", end - begin, (int)pid);
  order_answered();
  if (until_ready) {
    while (getchar() != EOF) continue;
    kill(pid, SIGTERM);
    wait_until_ended(pid);
  }
}

// What every file needs at the border to the operating system. Knows nothing of JavaScript.
#pragma once

#include <cerrno>
#include <utility>

#include <unistd.h>

namespace addon {

/** A file descriptor with one owner: closed at the end of its scope unless released. */
class OwnedFd {
 public:
  OwnedFd() = default;
  explicit OwnedFd(int fd) : fd_(fd) {}
  OwnedFd(OwnedFd&& other) noexcept : fd_(other.release()) {}
  OwnedFd& operator=(OwnedFd&& other) noexcept {
    close();
    fd_ = other.release();
    return *this;
  }
  ~OwnedFd() { close(); }

  explicit operator bool() const { return fd_ >= 0; }
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }

 private:
  /** Keeps errno: the failure that made us clean up is the one to report. */
  void close() {
    if (fd_ < 0) return;
    const int kept = errno;
    ::close(release());
    errno = kept;
  }

  int fd_ = -1;
};

/** Repeats a system call for as long as a signal interrupts it. */
template <typename Call>
auto retry(Call call) {
  auto result = call();
  while (result == -1 && errno == EINTR) result = call();
  return result;
}

}  // namespace addon

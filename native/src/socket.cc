// AF_UNIX sockets whose messages carry file descriptors, which Node's own socket classes cannot receive.
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "args.h"
#include "exports.h"
#include "os.h"

namespace addon {
namespace {

constexpr size_t maxFds = 253;  // SCM_MAX_FD of the kernel: a message cannot carry more

constexpr int wouldBlock = -1;  // WOULD_BLOCK of index.ts; no count of bytes

struct Address {
  sockaddr_un name = {};
  socklen_t length = 0;

  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&name); }
};

/** 0 or an errno. */
int fill(Address& address, const std::string& path) {
  if (path.empty()) return ENOENT;  // the kernel would take it for an abstract name
  if (path.size() >= sizeof(address.name.sun_path)) return ENAMETOOLONG;
  address.name.sun_family = AF_UNIX;
  std::memcpy(address.name.sun_path, path.data(), path.size());
  address.length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + 1);
  return 0;
}

/** Abstract names have no terminating zero byte, but a leading one. */
void makeAbstract(Address& address) {
  address.name.sun_path[0] = '\0';
  address.length--;
}

// listenUnix(path, backlog): fd
Napi::Value listenUnix(const Napi::CallbackInfo& info) {
  Args args(info);
  const std::string path = args.string(0, "path");
  const auto backlog = static_cast<int>(args.integer(1, "backlog", INT_MAX));
  if (args.failed()) return {};
  Address address;
  if (const int failed = fill(address, path)) return fail(info.Env(), failed, "bind");

  OwnedFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) return fail(info.Env(), errno, "socket");
  // bind() creates the file with the mode of the socket: unlike a chmod of the path afterwards, this leaves
  // no moment with another mode and cannot hit another file.
  if (fchmod(fd.get(), 0600) != 0) return fail(info.Env(), errno, "fchmod");
  if (bind(fd.get(), address.get(), address.length) != 0) return fail(info.Env(), errno, "bind");
  if (listen(fd.get(), backlog) != 0) {
    const int failed = errno;
    unlink(path.c_str());
    return fail(info.Env(), failed, "listen");
  }
  return Napi::Number::New(info.Env(), fd.release());
}

// connectUnix(path, wait): fd
Napi::Value connectUnix(const Napi::CallbackInfo& info) {
  Args args(info);
  const std::string path = args.string(0, "path");
  const bool wait = args.boolean(1, "wait");
  if (args.failed()) return {};
  Address address;
  if (const int failed = fill(address, path)) return fail(info.Env(), failed, "connect");

  OwnedFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | (wait ? 0 : SOCK_NONBLOCK), 0));
  if (!fd) return fail(info.Env(), errno, "socket");
  const auto reach = [&] { return connect(fd.get(), address.get(), address.length); };
  if (retry(reach) != 0) return fail(info.Env(), errno, "connect");
  if (fcntl(fd.get(), F_SETFL, O_NONBLOCK) != 0) return fail(info.Env(), errno, "fcntl");
  return Napi::Number::New(info.Env(), fd.release());
}

// acceptUnix(listener): fd or undefined
Napi::Value acceptUnix(const Napi::CallbackInfo& info) {
  Args args(info);
  const int listener = args.fd(0, "listener");
  if (args.failed()) return {};
  const auto take = [&] { return accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC); };
  const int fd = retry(take);
  if (fd >= 0) return Napi::Number::New(info.Env(), fd);
  if (errno == EAGAIN) return {};
  return fail(info.Env(), errno, "accept4");
}

// createPipe(): [read fd, write fd]
Napi::Value createPipe(const Napi::CallbackInfo& info) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return fail(info.Env(), errno, "pipe2");
  OwnedFd read(ends[0]);
  OwnedFd write(ends[1]);
  if (fcntl(read.get(), F_SETFL, O_NONBLOCK) != 0) return fail(info.Env(), errno, "fcntl");
  const auto pair = Napi::Array::New(info.Env(), 2);
  pair.Set(0u, Napi::Number::New(info.Env(), read.release()));
  pair.Set(1u, Napi::Number::New(info.Env(), write.release()));
  return pair;
}

// socketPair(): [fd, fd]
Napi::Value socketPair(const Napi::CallbackInfo& info) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) != 0) {
    return fail(info.Env(), errno, "socketpair");
  }
  auto pair = Napi::Array::New(info.Env(), 2);
  pair.Set(uint32_t{0}, Napi::Number::New(info.Env(), ends[0]));
  pair.Set(uint32_t{1}, Napi::Number::New(info.Env(), ends[1]));
  return pair;
}

/** Descriptors of one received message: closed at the end of the scope unless handed over. */
class ReceivedFds {
 public:
  explicit ReceivedFds(msghdr& message) {
    for (cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr; part = CMSG_NXTHDR(&message, part)) {
      if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
      const size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
      for (size_t i = 0; i < count && count_ < maxFds; i++) {
        int fd;
        std::memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof(int));
        fds_[count_++] = OwnedFd(fd);
      }
    }
  }

  size_t count() const { return count_; }

  void handOver(int32_t* to) {
    for (size_t i = 0; i < count_; i++) to[i] = fds_[i].release();
  }

 private:
  OwnedFd fds_[maxFds];
  size_t count_ = 0;
};

// receive(fd, into, at, length, fds): bytes, 0 at the end of the stream, -1 when nothing is there
Napi::Value receive(const Napi::CallbackInfo& info) {
  Args args(info);
  const int fd = args.fd(0);
  const Bytes into = args.bytes(1, "into");
  const uint64_t at = args.integer(2, "at");
  const uint64_t length = args.integer(3, "lengthBytes");
  const Array<int32_t> fds = args.int32s(4, "fds");
  if (args.failed()) return {};
  if (length == 0 || at > into.length || length > into.length - at) {
    args.mistake<Napi::RangeError>("into", "does not hold the range, or the range is empty");
    return {};
  }
  if (fds.length == 0) {
    args.mistake<Napi::RangeError>("fds", "has no room for the count");
    return {};
  }

  alignas(cmsghdr) char control[CMSG_SPACE(maxFds * sizeof(int))];
  iovec bytes = {into.data + at, length};
  msghdr message = {};
  message.msg_iov = &bytes;
  message.msg_iovlen = 1;
  message.msg_control = control;
  // Not CMSG_SPACE: the kernel would use its padding for one descriptor more.
  message.msg_controllen = CMSG_LEN(std::min(fds.length - 1, maxFds) * sizeof(int));
  const ssize_t count = retry([&] { return recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC); });
  fds.data[0] = 0;
  if (count < 0) {
    if (errno == EAGAIN) return Napi::Number::New(info.Env(), wouldBlock);
    return fail(info.Env(), errno, "recvmsg");
  }

  if (message.msg_controllen > 0 || (message.msg_flags & MSG_CTRUNC)) {
    ReceivedFds received(message);
    if (message.msg_flags & MSG_CTRUNC) return fail(info.Env(), EMSGSIZE, "recvmsg");
    fds.data[0] = static_cast<int32_t>(received.count());
    received.handOver(fds.data + 1);
  }
  return Napi::Number::New(info.Env(), static_cast<double>(count));
}

/** Reading the list may run JavaScript (a getter), so it comes before any pointer is taken. */
std::vector<int> readFds(const Napi::CallbackInfo& info, size_t index, Args& args) {
  std::vector<int> fds;
  if (args.failed() || info[index].IsUndefined()) return fds;
  const auto list = info[index].As<Napi::Array>();
  if (!list.IsArray()) {
    args.mistake<Napi::TypeError>("fds", "must be an array");
    return fds;
  }
  const uint32_t count = list.Length();
  if (count > maxFds) {
    args.mistake<Napi::RangeError>("fds", "must be at most " + std::to_string(maxFds));
    return fds;
  }
  for (uint32_t i = 0; i < count && !args.failed(); i++) {
    const Napi::Value fd = list[i];
    fds.push_back(static_cast<int>(args.integerOf(fd, "fds", INT_MAX)));
  }
  return fds;
}

/** Room for the descriptors of one message, filled in. */
class Attachment {
 public:
  Attachment(msghdr& message, const std::vector<int>& fds) {
    if (fds.empty()) return;
    const size_t length = fds.size() * sizeof(int);
    message.msg_control = control_;
    message.msg_controllen = CMSG_SPACE(length);
    cmsghdr* part = CMSG_FIRSTHDR(&message);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(length);
    std::memcpy(CMSG_DATA(part), fds.data(), length);
  }

 private:
  alignas(cmsghdr) char control_[CMSG_SPACE(maxFds * sizeof(int))];
};

// send(fd, from, at, length, fds?): bytes accepted, -1 when the socket takes none now
Napi::Value send(const Napi::CallbackInfo& info) {
  Args args(info);
  const std::vector<int> fds = readFds(info, 4, args);
  const int fd = args.fd(0);
  const Bytes from = args.bytes(1, "from");
  const uint64_t at = args.integer(2, "at");
  const uint64_t length = args.integer(3, "lengthBytes");
  if (args.failed()) return {};
  // A stream drops the descriptors of an empty message without a word.
  if (length == 0 || at > from.length || length > from.length - at) {
    args.mistake<Napi::RangeError>("from", "does not hold the range, or the range is empty");
    return {};
  }

  iovec bytes = {from.data + at, length};
  msghdr message = {};
  message.msg_iov = &bytes;
  message.msg_iovlen = 1;
  const Attachment attachment(message, fds);
  const ssize_t count = retry([&] {
    // Most messages carry no descriptors, and the plain call costs less.
    return fds.empty() ? ::send(fd, bytes.iov_base, length, MSG_NOSIGNAL | MSG_DONTWAIT)
                       : sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  });
  if (count < 0 && errno != EAGAIN) return fail(info.Env(), errno, "sendmsg");
  return Napi::Number::New(info.Env(), count < 0 ? wouldBlock : static_cast<double>(count));
}

// sendDatagram(path, bytes)
Napi::Value sendDatagram(const Napi::CallbackInfo& info) {
  Args args(info);
  const std::string path = args.string(0, "path");
  const Bytes bytes = args.bytes(1, "bytes");
  if (args.failed()) return {};
  Address address;
  if (const int failed = fill(address, path)) return fail(info.Env(), failed, "sendto");
  if (path.starts_with('@')) makeAbstract(address);

  OwnedFd fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd) return fail(info.Env(), errno, "socket");
  const auto post = [&] {
    constexpr int flags = MSG_NOSIGNAL | MSG_DONTWAIT;
    return sendto(fd.get(), bytes.data, bytes.length, flags, address.get(), address.length);
  };
  if (retry(post) < 0) return fail(info.Env(), errno, "sendto");
  return {};
}

}  // namespace

void exposeSockets(Napi::Object exports) {
  expose<listenUnix>(exports, "listenUnix");
  expose<connectUnix>(exports, "connectUnix");
  expose<acceptUnix>(exports, "acceptUnix");
  expose<socketPair>(exports, "socketPair");
  expose<createPipe>(exports, "createPipe");
  expose<receive>(exports, "receive");
  expose<send>(exports, "send");
  expose<sendDatagram>(exports, "sendDatagram");
}

}  // namespace addon

// Memory of our own that other processes can map: memfds, their seals and their holes.
#include <cerrno>
#include <csignal>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "args.h"
#include "exports.h"
#include "os.h"

namespace addon {
namespace {

// createMemfd(name, length, sealSize): fd
Napi::Value createMemfd(const Napi::CallbackInfo& info) {
  Args args(info);
  const std::string name = args.string(0, "name");
  const uint64_t length = args.integer(1, "lengthBytes");
  const bool sealSize = args.boolean(2, "seals");
  if (args.failed()) return {};

  OwnedFd fd(memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd) return fail(info.Env(), errno, "memfd_create");
  if (ftruncate(fd.get(), static_cast<off_t>(length)) != 0) return fail(info.Env(), errno, "ftruncate");
  constexpr int size = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
  if (sealSize && fcntl(fd.get(), F_ADD_SEALS, size) != 0) return fail(info.Env(), errno, "fcntl");
  return Napi::Number::New(info.Env(), fd.release());
}

// seals(fd): number
Napi::Value seals(const Napi::CallbackInfo& info) {
  Args args(info);
  const int fd = args.fd(0);
  if (args.failed()) return {};
  const int seals = fcntl(fd, F_GET_SEALS);
  const bool cannotBeSealed = seals < 0 && errno == EINVAL;
  if (seals < 0 && !cannotBeSealed) return fail(info.Env(), errno, "fcntl");
  return Napi::Number::New(info.Env(), cannotBeSealed ? 0 : seals);
}

// openMode(fd): number
Napi::Value openMode(const Napi::CallbackInfo& info) {
  Args args(info);
  const int fd = args.fd(0);
  if (args.failed()) return {};
  const int flags = fcntl(fd, F_GETFL);
  if (flags < 0) return fail(info.Env(), errno, "fcntl");
  return Napi::Number::New(info.Env(), flags & O_ACCMODE);
}

// punchHole(fd, offset, length)
Napi::Value punchHole(const Napi::CallbackInfo& info) {
  Args args(info);
  const int fd = args.fd(0);
  const auto offset = static_cast<off_t>(args.integer(1, "offset"));
  const auto length = static_cast<off_t>(args.integer(2, "lengthBytes"));
  if (args.failed()) return {};
  const auto punch = [&] { return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length); };
  if (retry(punch) != 0) return fail(info.Env(), errno, "fallocate");
  return {};
}

// nextData(fd, offset): number | undefined
Napi::Value nextData(const Napi::CallbackInfo& info) {
  Args args(info);
  const int fd = args.fd(0);
  const auto offset = static_cast<off_t>(args.integer(1, "offset"));
  if (args.failed()) return {};
  const off_t data = lseek(fd, offset, SEEK_DATA);
  const bool none = data < 0 && errno == ENXIO;
  if (data < 0 && !none) return fail(info.Env(), errno, "lseek");
  return none ? info.Env().Undefined() : Napi::Number::New(info.Env(), static_cast<double>(data));
}

// dataBytes(fd, offset, length): number
Napi::Value dataBytes(const Napi::CallbackInfo& info) {
  Args args(info);
  const int fd = args.fd(0);
  auto at = static_cast<off_t>(args.integer(1, "offset"));
  const off_t end = at + static_cast<off_t>(args.integer(2, "lengthBytes"));
  if (args.failed()) return {};
  double bytes = 0;
  while (at < end) {
    const off_t data = lseek(fd, at, SEEK_DATA);
    if (data < 0 && errno != ENXIO) return fail(info.Env(), errno, "lseek");
    if (data < 0 || data >= end) break;
    // The data may be gone by now, and then so may all up to the end of the file.
    const off_t hole = lseek(fd, data, SEEK_HOLE);
    if (hole < 0 && errno != ENXIO) return fail(info.Env(), errno, "lseek");
    if (hole < 0) break;
    at = hole < end ? hole : end;
    bytes += static_cast<double>(at - data);
  }
  return Napi::Number::New(info.Env(), bytes);
}

// isOpenElsewhere(fd): boolean
Napi::Value isOpenElsewhere(const Napi::CallbackInfo& info) {
  Args args(info);
  const int fd = args.fd(0);
  if (args.failed()) return {};
  // Who opens the file during the lease makes the kernel send a signal. SIGIO, the default, would end the process.
  if (fcntl(fd, F_SETSIG, SIGURG) != 0) return fail(info.Env(), errno, "fcntl");
  if (fcntl(fd, F_SETLEASE, F_WRLCK) != 0) {
    if (errno == EAGAIN) return Napi::Boolean::New(info.Env(), true);
    return fail(info.Env(), errno, "fcntl");
  }
  if (fcntl(fd, F_SETLEASE, F_UNLCK) != 0) return fail(info.Env(), errno, "fcntl");
  return Napi::Boolean::New(info.Env(), false);
}

}  // namespace

void exposeBuffers(Napi::Object exports) {
  expose<createMemfd>(exports, "createMemfd");
  expose<seals>(exports, "seals");
  expose<openMode>(exports, "openMode");
  expose<punchHole>(exports, "punchHole");
  expose<nextData>(exports, "nextData");
  expose<dataBytes>(exports, "dataBytes");
  expose<isOpenElsewhere>(exports, "isOpenElsewhere");
}

}  // namespace addon

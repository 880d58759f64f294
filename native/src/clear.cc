#include "clear.h"

#include <algorithm>
#include <cerrno>
#include <new>
#include <utility>

#include <fcntl.h>
#include <unistd.h>

#include "args.h"
#include "exports.h"

namespace addon {
namespace {

/** Fits a cache of the second level. Not const, and so in .bss: it takes no room in the file. */
uint8_t zeros[1 << 18];

bool writeZeros(int fd, off_t at, off_t end) {
  while (at < end) {
    const size_t length = std::min<size_t>(end - at, sizeof(zeros));
    const ssize_t written = retry([&] { return pwrite(fd, zeros, length, at); });
    if (written < 0) return false;
    at += written;
  }
  return true;
}

}  // namespace

const char* clearRange(int fd, uint64_t offset, uint64_t length) {
  auto at = static_cast<off_t>(offset);
  const auto end = static_cast<off_t>(offset + length);
  while (at < end) {
    const off_t data = lseek(fd, at, SEEK_DATA);
    // No data from here to the end of the file, or the file ends before.
    if (data < 0 && errno == ENXIO) return nullptr;
    if (data < 0) return "lseek";
    if (data >= end) return nullptr;
    const off_t hole = lseek(fd, data, SEEK_HOLE);
    if (hole < 0 && errno == ENXIO) return nullptr;
    if (hole < 0) return "lseek";
    at = std::min(hole, end);
    if (!writeZeros(fd, data, at)) return "pwrite";
  }
  return nullptr;
}

int Clear::start(Napi::Env env, Napi::Function done) {
  uv_loop_s* loop = nullptr;
  if (napi_get_uv_event_loop(env, &loop) != napi_ok) return ENOSYS;
  request_ = static_cast<uv_work_s*>(::operator new(uv_req_size(UV_WORK)));
  // Owned by the request until libuv gives it back.
  auto* owner = new std::shared_ptr<Clear>(shared_from_this());
  uv_req_set_data(reinterpret_cast<uv_req_s*>(request_), owner);
  if (const int failed = uv_queue_work(loop, request_, onThread, onLoop)) {
    delete owner;
    ::operator delete(std::exchange(request_, nullptr));
    return -failed;
  }
  done_.emplace(Napi::Persistent(done), Napi::AsyncContext(env, "vfio-user-gpu:clear"));
  registry_->clears.insert(shared_from_this());
  return 0;
}

void Clear::wait() {
  done_.reset();
  if (finished_.load(std::memory_order_acquire)) return;
  // A thread of the pool may be busy with other things for long: do not queue behind them.
  if (uv_cancel(reinterpret_cast<uv_req_s*>(request_)) == 0) clear();
  finished_.wait(false, std::memory_order_acquire);
}

void Clear::abandon() {
  done_.reset();
  uv_cancel(reinterpret_cast<uv_req_s*>(request_));
}

void Clear::clear() {
  // The descriptor goes with the work: many requests may wait for their turn of the loop.
  const OwnedFd fd = std::move(fd_);
  failed_ = clearRange(fd.get(), offset_, length_);
  if (failed_ != nullptr) error_ = errno;
  finished_.store(true, std::memory_order_release);
  finished_.notify_all();
}

void Clear::onThread(uv_work_s* request) {
  (*static_cast<std::shared_ptr<Clear>*>(uv_req_get_data(reinterpret_cast<uv_req_s*>(request))))->clear();
}

void Clear::onLoop(uv_work_s* request, int) {
  auto* owner = static_cast<std::shared_ptr<Clear>*>(uv_req_get_data(reinterpret_cast<uv_req_s*>(request)));
  const std::shared_ptr<Clear> clear = *owner;
  delete owner;
  ::operator delete(std::exchange(clear->request_, nullptr));
  clear->registry_->clears.erase(clear);
  clear->callDone();
  clear->registry_->answerEnding();
}

void Clear::callDone() {
  if (!done_) return;
  const Napi::Env env = done_->callback.Env();
  const Napi::HandleScope scope(env);
  const Done done = *std::exchange(done_, std::nullopt);
  const napi_value argument = failed_ == nullptr ? env.Undefined() : systemError(env, error_, failed_);
  napi_make_callback(env, done.context, env.Global(), done.callback.Value(), 1, &argument, nullptr);
  // As in Watch::call.
  if (env.IsExceptionPending()) napi_fatal_exception(env, env.GetAndClearPendingException().Value());
}

namespace {

// clearRange(fd, offset, length)
Napi::Value clearNow(const Napi::CallbackInfo& info) {
  Args args(info);
  const int fd = args.fd(0);
  const uint64_t offset = args.integer(1, "offset");
  const uint64_t length = args.integer(2, "lengthBytes");
  if (args.failed()) return {};
  if (const char* failed = clearRange(fd, offset, length)) return fail(info.Env(), errno, failed);
  return {};
}

// clearInBackground(fd, offset, length, done): handle
Napi::Value clearInBackground(const Napi::CallbackInfo& info) {
  Args args(info);
  const int fd = args.fd(0);
  const uint64_t offset = args.integer(1, "offset");
  const uint64_t length = args.integer(2, "lengthBytes");
  if (!info[3].IsFunction()) args.mistake<Napi::TypeError>("done", "must be a function");
  if (args.failed()) return {};
  OwnedFd own(fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!own) return fail(info.Env(), errno, "fcntl");
  const auto clear = std::make_shared<Clear>(registryOf(info.Env()), std::move(own), offset, length);
  if (const int failed = clear->start(info.Env(), info[3].As<Napi::Function>())) {
    return fail(info.Env(), failed, "uv_queue_work");
  }
  return makeHandle(info.Env(), new ClearHandle{clear});
}

// waitForClear(handle)
Napi::Value waitForClear(const Napi::CallbackInfo& info) {
  Args args(info);
  auto* handle = args.handle<ClearHandle>(0);
  if (args.failed()) return {};
  Clear& clear = *handle->clear;
  clear.wait();
  if (clear.failed() != nullptr) return fail(info.Env(), clear.error(), clear.failed());
  return {};
}

}  // namespace

void exposeClears(Napi::Object exports) {
  expose<clearNow>(exports, "clearRange");
  expose<clearInBackground>(exports, "clearInBackground");
  expose<waitForClear>(exports, "waitForClear");
}

}  // namespace addon
